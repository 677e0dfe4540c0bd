# SPDX-License-Identifier: Apache-2.0
"""SAM with adapters, trained in part: what GAVS makes of it."""

from mmengine.model import BaseModule
from torch import Tensor

from ..layers.frozen import checked_checkpoint
from ..layers.mlp_adapter import MLPAdapter
from .base import build_model, read_pretrained


class AdaptedSAM(BaseModule):
    """SAM whose last encoder blocks and whose mask decoder have adapters behind their MLPs.

    Trained are the adapters of encoder blocks from ``tune_v`` on (ReLU), the norms of the blocks after that one, and
    the adapters of the decoder's layers (GELU); all else is frozen. Adapters of earlier blocks are never run: the
    published checkpoints have them. Checkpoints hold all weights, and need no other file.

    Args:
        config (dict): arguments of the library's ``SamConfig``. SAM's own ``mask_decoder_config.layer_norm_eps`` is
            1e-5, which is not the library's default.
        tune_v (int): the first encoder block whose adapter runs, counted from 0. Defaults to 9.
        width (int): of the adapters. Defaults to 128.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=PLACE)`` of SAM's weights, see
            :func:`read_pretrained`; read in :meth:`init_weights`. None draws them. Defaults to None.

    Raises:
        ImportError: the library is not installed.
        ValueError: ``tune_v`` is no block, ``width`` under 1, or another ``init_cfg``.
    """

    def __init__(self, config: dict, tune_v: int = 9, width: int = 128, init_cfg: dict | None = None) -> None:
        super().__init__()
        self.checkpoint = checked_checkpoint(init_cfg, type(self).__name__)
        self.config = config
        self.model = build_model('SamModel', config, drawn=init_cfg is None).requires_grad_(False)
        blocks = self.model.vision_encoder.layers
        if not 0 <= tune_v <= len(blocks) or width < 1:
            raise ValueError(
                f'tune_v must be one of {len(blocks)} encoder blocks, or {len(blocks)} for none, and the width of '
                f'adapters at least 1, got {tune_v} and {width}'
            )
        for i, block in enumerate(blocks):
            block.mlp = MLPAdapter(block.mlp, block.layer_norm2.weight.numel(), width, 'ReLU', used=i >= tune_v)
            for norm in (block.layer_norm1, block.layer_norm2):
                norm.requires_grad_(i > tune_v)
        for layer in self.model.mask_decoder.transformer.layers:
            layer.mlp = MLPAdapter(layer.mlp, self.channels, width, 'GELU')

    @property
    def channels(self) -> int:
        """C of the image embedding and of prompts."""
        return self.model.mask_decoder.hidden_size

    def init_weights(self) -> None:
        """Read SAM's weights; without ``init_cfg`` nothing happens, as the library has drawn them.

        Raises:
            FileNotFoundError: they are neither there nor to be had.
            ValueError: they do not fit the config.
        """
        if self.checkpoint is None:
            return
        state = read_pretrained('SamModel', self.config, self.checkpoint)
        for key, own in self.model.state_dict(keep_vars=True).items():
            name = key.replace('.mlp.mlp.', '.mlp.')  # behind the adapter
            if name in state:  # in place of what was there: no weight is in memory twice
                own.data = state.pop(name).to(own)

    def encode(self, imgs: Tensor) -> Tensor:
        """Image embeddings.

        Args:
            imgs (Tensor): (N, 3, S, S) float32, normalised and padded to the S of the config.

        Returns:
            Tensor: (N, C, s, s) float32, s of the config's patches a side.

        Raises:
            ValueError: images of another size.
        """
        side = self.model.config.vision_config.image_size
        if imgs.shape[-2:] != (side, side):
            raise ValueError(
                f'SAM takes {side} x {side} pixels, got {tuple(imgs.shape[-2:])}: frames need ResizeClip(short_side='
                f'{side}, max_size={side}), and data_preprocessor.size_divisor={side} pads them'
            )
        return self.model.vision_encoder(imgs)[0]

    def decode(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """One mask an image.

        Args:
            maps (Tensor): (N, C, s, s) image embeddings.
            tokens (Tensor): (N, P, C) prompts.

        Returns:
            Tensor: (N, 1, 4s, 4s) logits of the padded image.
        """
        masks, _ = self.model.mask_decoder(
            image_embeddings=maps,
            image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=tokens[:, None],  # (N, 1, P, C), one set of prompts an image
            dense_prompt_embeddings=self.model.prompt_encoder.no_mask_embed.weight[..., None, None],  # (1, C, 1, 1)
            multimask_output=False,
        )
        return masks[:, 0]  # (N, 1, 1, 4s, 4s) -> (N, 1, 4s, 4s)
