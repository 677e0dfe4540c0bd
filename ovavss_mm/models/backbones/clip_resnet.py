# SPDX-License-Identifier: Apache-2.0
"""A frozen CLIP as the backbone (CLIP-VIS)."""

import torch
from mmseg.registry import MODELS
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from ..layers.clip import build_clip, check_tag, clip_weights_file, resnet_maps
from ..layers.frozen import FrozenModule


@MODELS.register_module()
class CLIPResNet(FrozenModule):
    """The image tower of an open_clip ResNet without its attention pool: never trained, always in evaluation mode.

    The attention pool belongs to :class:`~ovavss_mm.models.MaskPoolingClassifier`, which with ``share_backbone`` reads
    the last map.

    Args:
        clip_model (str | dict): as of :class:`~ovavss_mm.models.OpenVocabularyClassifier`, of a CLIP with a ResNet.
            Defaults to 'RN50-quickgelu', OpenAI's.
        init_cfg (dict, optional): as of there, with the whole CLIP's weights. Defaults to None.

    Attributes:
        dense_channels (int): channels of the last map.

    Raises:
        ValueError: an unknown model or tag, or a model whose image tower is no ResNet.
    """

    def __init__(self, clip_model: str | dict = 'RN50-quickgelu', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.model_name = clip_model if isinstance(clip_model, str) else None
        tower = build_clip(clip_model).visual
        check_tag(self.model_name, self.checkpoint)
        if not isinstance(tower, ModifiedResNet):
            raise ValueError(f'CLIPResNet takes a CLIP with a ResNet, such as RN50, got {clip_model!r}')
        self.dense_channels = tower.attnpool.k_proj.in_features
        tower.attnpool = nn.Identity()
        self.visual = tower
        self.freeze()

    def weights_file(self) -> str:
        """Path of the weights; those that ``init_cfg`` names by a tag are downloaded, once."""
        return clip_weights_file(self.model_name, self.checkpoint)

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a CLIP checkpoint the image tower without its attention pool."""
        pool = 'visual.attnpool.'
        return {key: x for key, x in state.items() if key.startswith('visual.') and not key.startswith(pool)}

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps f4, f8, f16, f32 (M, c, h, w), without a gradient, of normalised images (M, 3, H, W) float32."""
        return resnet_maps(self.visual, images)
