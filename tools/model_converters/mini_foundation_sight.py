# SPDX-License-Identifier: Apache-2.0
"""A small Grounding DINO and a small SAM of the mini world: their data and their losses."""

import string
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou, masks_to_boxes
from train_mini_clip import draw_objects, perturb_mask

from ovavss_mm.mini_world.names import COLOURS, NAMES, SHAPES, split_name
from ovavss_mm.mini_world.scene import FRAME_SIZE

# Grounding DINO knows these tokens by BERT's ids, and '[PAD]' by 0.
BERT_IDS = {'[PAD]': 0, '[UNK]': 100, '[CLS]': 101, '[SEP]': 102, '[MASK]': 103, '.': 1012, '?': 1029}
FIRST_WORD = 200  # id of the first word; letters follow the words
MINI = Config.fromfile(Path(__file__).parents[2] / 'configs/_base_/models/foundation_mini.py')  # their sizes
# A backbone of convolutions: small windows of attention learn colours alone in this time.
GROUNDING_DINO = MINI.mini_grounding_dino.config.to_dict() | dict(auxiliary_loss=True)
FRAMES = dict(size=dict(shortest_edge=96, longest_edge=160))  # the mini world's frames keep their size
BOX_THRESHOLD = 0.3
BACKBONE_STEPS, BACKBONE_LR = 1000, 2e-3
SAM = MINI.mini_sam.config.to_dict()
SAM['vision_config']['initializer_range'] = 0.02  # the library's 1e-10 embeds all pictures alike
SIDE = SAM['vision_config']['image_size']  # of SAM's squares; its masks have half of it
SQUARES = dict(
    size=dict(longest_edge=SIDE),
    pad_size=dict(height=SIDE, width=SIDE),
    mask_size=dict(longest_edge=SIDE // 2),
    mask_pad_size=dict(height=SIDE // 2, width=SIDE // 2),
)
BOX_JITTER = 1.5  # deviation in pixels of each side


def draw_frame(rng: np.random.Generator) -> tuple[np.ndarray, list[str], list[np.ndarray | None]]:
    """Draw one to four objects: frame uint8 (96, 128, 3), names and what is seen of each if enough is."""
    names = [str(name) for name in rng.permutation(NAMES)[: rng.integers(1, 5)]]
    frame, visible = draw_objects(rng, names)
    return frame, names, visible


def draw_named_masks(rng: np.random.Generator, count: int) -> tuple[list[np.ndarray], Tensor, Tensor, Tensor, Tensor]:
    """Draw frames: these, and of each object the frame, the mask float32 (96, 128), grown by 2, colour and shape."""
    frames, owners, masks, labels = [], [], [], []
    for index in range(count):
        frame, names, visible = draw_frame(rng)
        frames.append(frame)
        for name, mask in zip(names, visible, strict=True):
            if mask is not None:
                owners.append(index)
                masks.append(cv2.dilate(mask.astype(np.float32), np.ones((5, 5))))
                colour, shape = split_name(name)
                labels.append((COLOURS.index(colour), SHAPES.index(shape)))
    colours, shapes = torch.tensor(labels).T
    return frames, torch.tensor(owners), torch.from_numpy(np.stack(masks)), colours, shapes


def boxes_of(masks: list[np.ndarray]) -> Tensor:
    """Boxes float32 (n, 4) x1, y1, x2, y2 in pixels, up to the outer borders, of masks bool (96, 128)."""
    masks = torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *FRAME_SIZE, dtype=torch.bool)
    return masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1])


class MiniGroundingDino:
    """Grounding DINO that is trained on frames and captions of one name, which is there or not.

    Args:
        seed (int): of all chance in the data.
        scale (float): of the number of steps in which the backbone alone is trained before. Defaults to 1.
    """

    iters, lr, batch = 2000, 6e-4, 16

    def __init__(self, seed: int, scale: float = 1.0):
        from transformers import (
            BertTokenizer,
            GroundingDinoConfig,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessor,
            GroundingDinoProcessor,
        )

        tokenizer = BertTokenizer(vocab=make_vocabulary())
        self.processor = GroundingDinoProcessor(GroundingDinoImageProcessor(**FRAMES), tokenizer)
        self.processors = (self.processor,)
        self.model = GroundingDinoForObjectDetection(GroundingDinoConfig(**GROUNDING_DINO))
        self.model.loss_function = decoder_loss
        # Scores of proposals are products of 64 features each: at first they would be far from 0.
        torch.nn.init.constant_(self.model.model.enc_output_norm.weight, 0.1)
        self.rng, self.steps = np.random.default_rng((seed, 2)), max(1, round(BACKBONE_STEPS * scale))

    def prepare(self) -> None:
        """Teach the backbone alone what objects are, as backbones of the real ones have learned from ImageNet.

        Each level of features, averaged over an object and its border, is to tell its colour and its shape.
        """
        backbone = self.model.model.backbone.conv_encoder.model
        heads = torch.nn.ModuleList([torch.nn.Linear(size, len(COLOURS) + len(SHAPES)) for size in backbone.channels])
        parameters = [*backbone.parameters(), *heads.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=BACKBONE_LR, weight_decay=0.01, fused=True)
        for step in range(self.steps):
            optimizer.param_groups[0]['lr'] = BACKBONE_LR * min((step + 1) / 30, 2 - 2 * step / self.steps, 1)
            frames, owners, masks, colours, shapes = draw_named_masks(self.rng, self.batch)
            pixels = self.processor.image_processor(images=frames, return_tensors='pt')['pixel_values']
            loss, hits = 0.0, []
            for head, features in zip(heads, backbone(pixels).feature_maps, strict=True):
                weights = F.adaptive_avg_pool2d(masks[:, None], features.shape[-2:])
                pooled = (features[owners] * weights).sum((2, 3)) / weights.sum((2, 3))  # (n, channels)
                colour, shape = head(pooled).split((len(COLOURS), len(SHAPES)), dim=1)
                loss = loss + F.cross_entropy(colour, colours) + F.cross_entropy(shape, shapes)
                hits.append((shape.argmax(1) == shapes).float().mean().item())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if step % 100 == 0 or step == self.steps - 1:
                print(f'backbone, step {step}: loss {loss.item():.4f}, shapes right {np.mean(hits):.2f}', flush=True)

    def loss(self) -> Tensor:
        """The model's own loss of its decoder layers, and the same of the encoder's proposals.

        Where the name is absent there are no boxes, and all scores are to be 0.
        """
        from transformers import GroundingDinoConfig
        from transformers.loss.loss_grounding_dino import GroundingDinoForObjectDetectionLoss
        from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps, build_text_mask

        frames, names, boxes = zip(*(self.sample() for _ in range(self.batch)), strict=True)
        size = torch.tensor([*FRAME_SIZE[::-1]] * 2)
        boxes = [box_convert(each / size, 'xyxy', 'cxcywh') for each in boxes]
        labels = [dict(boxes=each, class_labels=torch.zeros(len(each), dtype=torch.long)) for each in boxes]
        inputs = self.inputs(frames, names)
        output = self.model(**inputs, labels=labels)
        scores, boxes = output.enc_outputs_class, output.enc_outputs_coord_logits.sigmoid()
        text = build_label_maps(scores, inputs['input_ids']), build_text_mask(scores, inputs['attention_mask'])
        config = GroundingDinoConfig(**GROUNDING_DINO | dict(two_stage=False, auxiliary_loss=False))
        return output.loss + GroundingDinoForObjectDetectionLoss(scores, labels, scores.device, boxes, config, *text)[0]

    def sample(self) -> tuple[np.ndarray, str, Tensor]:
        """A frame, a name and the boxes (0 or 1, 4) of the name in it."""
        while True:
            frame, names, visible = draw_frame(self.rng)
            name = ask(self.rng, names)
            if name not in names:
                return frame, name, boxes_of([])
            mask = visible[names.index(name)]
            if mask is not None:
                return frame, name, boxes_of([mask])

    def inputs(self, frames: list[np.ndarray], names: list[str]):
        """The model's input: frames, and one caption for each."""
        captions = [name.replace('-', ' ') + '.' for name in names]
        return self.processor(images=list(frames), text=captions, padding=True, return_tensors='pt')

    @torch.no_grad()
    def report(self, seed: int, count: int = 500) -> dict[str, float]:
        """Recall of present names at IoU 0.5, rates of boxes for absent names: any, of a colour that is there."""
        rng, found, false, hard = np.random.default_rng((seed, 2)), [], [], []
        for _ in range(count):
            frame, names, visible = draw_frame(rng)
            absent = str(rng.choice([name for name in NAMES if name not in names]))
            near = str(rng.choice([n for n in NAMES if n not in names and n.split('-')[0] == names[0].split('-')[0]]))
            asked = [*names, absent, near]
            boxes = self.detect([frame] * len(asked), asked)
            for guess, mask in zip(boxes, visible, strict=False):
                if mask is not None:
                    found.append(bool((box_iou(guess, boxes_of([mask])) > 0.5).any()))
            false.append(len(boxes[-2]) > 0)
            hard.append(len(boxes[-1]) > 0)
        return dict(recall=np.mean(found), false=np.mean(false), false_of_colour=np.mean(hard))

    def detect(self, frames: list[np.ndarray], names: list[str]) -> list[Tensor]:
        """Boxes (n, 4) in pixels whose score is above 0.3, for each frame and its name."""
        output = self.model(**self.inputs(frames, names))
        results = self.processor.post_process_grounded_object_detection(
            output, threshold=BOX_THRESHOLD, target_sizes=[FRAME_SIZE] * len(frames)
        )
        return [result['boxes'] for result in results]


def decoder_loss(logits, labels, device, boxes, config, *text, outputs_class, outputs_coord, **unused):
    """The library's loss but for proposals: it leaves out their scores, and their boxes get no gradient from it."""
    from transformers import GroundingDinoConfig
    from transformers.loss.loss_grounding_dino import GroundingDinoForObjectDetectionLoss

    config = GroundingDinoConfig(**GROUNDING_DINO | dict(two_stage=False))
    return GroundingDinoForObjectDetectionLoss(
        logits, labels, device, boxes, config, *text, outputs_class, outputs_coord
    )


def ask(rng: np.random.Generator, names: list[str]) -> str:
    """A name of a frame, or else a name that is not there, mostly one whose colour or shape is."""
    if rng.random() < 0.5:
        return str(rng.choice(names))
    colour, shape = split_name(str(rng.choice(names)))
    kind = rng.choice(3, p=(0.5, 0.25, 0.25))
    near = ([f'{colour}-{other}' for other in SHAPES], [f'{other}-{shape}' for other in COLOURS], NAMES)[kind]
    return str(rng.choice([name for name in near if name not in names] or [names[0]]))


def make_vocabulary() -> dict[str, int]:
    """Tokens of BERT's tokenizer: words of names, letters that spell others, and fillers up to BERT's own ids."""
    letters = string.ascii_lowercase + string.digits
    tokens = [*COLOURS, *SHAPES, *letters, *(f'##{letter}' for letter in letters)]
    vocabulary = BERT_IDS | {token: FIRST_WORD + i for i, token in enumerate(tokens)}
    taken = set(vocabulary.values())
    vocabulary |= {f'[unused{i}]': i for i in range(GROUNDING_DINO['text_config']['vocab_size']) if i not in taken}
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


class MiniSam:
    """SAM that is trained to turn boxes, and bad masks, into masks of what is seen of objects.

    Args:
        seed (int): of all chance in the data.
        scale (float): unused: frames are drawn while training.
    """

    iters, lr, batch = 3000, 1e-3, 24

    def __init__(self, seed: int, scale: float = 1.0):
        from transformers import SamConfig, SamImageProcessor, SamModel

        self.processor = SamImageProcessor(**SQUARES)
        self.processors = (self.processor,)
        self.model = SamModel(SamConfig(**SAM))
        # As in the original, whose frequencies have deviation 1 and stay; those drawn here are too high to tell places.
        place = self.model.shared_image_embedding.positional_embedding.requires_grad_(False)
        torch.nn.init.normal_(place)
        self.rng = np.random.default_rng((seed, 3))

    def prepare(self) -> None:
        """Nothing: frames are drawn while training."""

    def loss(self) -> Tensor:
        """Cross entropy and dice of masks from boxes, half of them with bad masks, too; error of the expected IoU."""
        embeddings, masks, boxes, prompts = self.sample(self.rng, self.batch)
        half = self.batch // 2
        first = self.masks(embeddings[:half], boxes[:half])
        second = self.masks(embeddings[half:], boxes[half:], prompts[half:])
        logits, scores = (torch.cat(pair) for pair in zip(first, second, strict=True))
        cross = F.binary_cross_entropy_with_logits(logits, masks)
        soft = logits.sigmoid()
        dice = 1 - (2 * (soft * masks).sum((1, 2)) + 1) / (soft.sum((1, 2)) + masks.sum((1, 2)) + 1)
        return 10 * cross + dice.mean() + F.mse_loss(scores, mask_iou(logits > 0, masks > 0.5))

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw frames until they have enough objects, in any order.

        Returns:
            tuple: embeddings (n, 64, 16, 16) of the objects' frames, masks float32 (n, 96, 128), 0 or 1, boxes float32
            (n, 4) in pixels, moved by chance, and bad masks as logits float32 (n, 96, 128).
        """
        frames, owners, masks = [], [], []
        while len(masks) < count:
            frame, _, visible = draw_frame(rng)
            seen = [mask for mask in visible if mask is not None]
            owners += [len(frames)] * len(seen)
            masks += seen
            frames.append(frame)
        chosen = rng.permutation(len(masks))[:count]
        masks = [masks[i] for i in chosen]
        prompts = torch.from_numpy(np.stack([perturb_mask(rng, mask) for mask in masks])).logit(eps=1e-4)
        boxes = boxes_of(masks) + torch.from_numpy(rng.normal(0, BOX_JITTER, (count, 4))).float()
        embeddings = self.embed(frames)[[owners[i] for i in chosen]]
        return embeddings, torch.from_numpy(np.stack(masks)).float(), boxes, prompts

    def embed(self, frames: list[np.ndarray]) -> Tensor:
        """Embeddings (n, 64, 16, 16) of frames (96, 128, 3), padded to squares."""
        pixels = self.processor(images=list(frames), return_tensors='pt')['pixel_values']
        return self.model.vision_encoder(pixels).last_hidden_state  # get_image_embeddings gives no gradient

    def masks(self, embeddings: Tensor, boxes: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (n, 96, 128) and expected IoUs (n,) of a box (4,) for each embedding; prompts are logits, too."""
        output = self.model(
            image_embeddings=embeddings,
            input_boxes=boxes[:, None],  # (n, 1, 4)
            input_masks=None if prompts is None else low_resolution(prompts),
            multimask_output=False,
        )
        logits = F.interpolate(output.pred_masks[:, 0], (SIDE, SIDE), mode='bilinear', align_corners=False)
        return logits[:, 0, : FRAME_SIZE[0]], output.iou_scores[:, 0, 0]

    @torch.no_grad()
    def report(self, seed: int, count: int = 500) -> dict[str, float]:
        """Mean IoU from boxes, of bad masks, and from boxes and these."""
        embeddings, masks, boxes, prompts = self.sample(np.random.default_rng((seed, 3)), count)
        masks = masks > 0.5
        box, box_score = self.masks(embeddings, boxes)
        both, both_score = self.masks(embeddings, boxes, prompts)
        ious = [mask_iou(guess > 0, masks) for guess in (box, prompts, both)]
        error = (torch.cat([box_score - ious[0], both_score - ious[2]])).abs().mean()
        worse = (ious[2] < ious[1]).float().mean()
        figures = dict(zip(('box', 'prompt', 'box_and_prompt'), (iou.mean().item() for iou in ious), strict=True))
        return figures | dict(worse_than_prompt=worse.item(), error_of_score=error.item())


def low_resolution(logits: Tensor) -> Tensor:
    """Mask prompts (n, 1, 64, 64) from logits (n, 96, 128): padded below with 0 and halved."""
    padded = F.pad(logits, (0, 0, 0, SIDE - FRAME_SIZE[0]))
    return F.interpolate(padded[:, None], scale_factor=0.5, mode='bilinear', align_corners=False)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU (n,) of masks bool (n, h, w), of which the second are not empty."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))
