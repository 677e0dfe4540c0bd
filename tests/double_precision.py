# SPDX-License-Identifier: Apache-2.0
"""A hook for tests that compare label maps to the pixel: in float32 a rounding may turn one over."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class DoublePrecisionHook(Hook):
    """Test in float64, whatever the loader gives."""

    def before_test(self, runner: Runner) -> None:
        """Turn the model, and the sound that it gets, to float64; images follow their mean."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.double()
        model.audio_encoder.register_forward_pre_hook(lambda module, args: (args[0].double(),))
