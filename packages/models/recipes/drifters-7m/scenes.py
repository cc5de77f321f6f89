"""Scenes to train on, and the check that a clip shows what its code says.

A scene is defined in continuous space and time: the frame is the unit square, y down, and the clip lasts one unit. A grid only says
how finely it is sampled, so a clip of 8 frames of 16 x 16 pixels and one of 16 frames of 64 x 64 show the same kind of scene.

One saturated shape (circle, square, triangle or cross, in one of six colours, with shading and a drop shadow) drifts in one of eight
directions. Behind it: a background that fades between two dull colours, with waves that wander across it, and up to two grey
shapes on paths of their own.
"""

import math

import torch
import torch.nn.functional as F

SHAPES = ["circle", "square", "triangle", "cross"]
COLOURS = ["red", "green", "blue", "yellow", "magenta", "cyan"]
DIRECTIONS = ["right", "down right", "down", "down left", "left", "up left", "up", "up right"]
NULL_CODE = (len(SHAPES), len(COLOURS), len(DIRECTIONS))
PALETTE = [[0.95, 0.22, 0.18], [0.18, 0.80, 0.28], [0.22, 0.42, 0.97], [0.97, 0.82, 0.18], [0.85, 0.25, 0.90], [0.18, 0.85, 0.90]]


def signed_distance(kind, dx, dy, r):
    """Distance to the edge of a shape, negative inside; all arguments broadcast. Shapes of one r look equally large."""
    circle = (dx * dx + dy * dy).sqrt() - r
    square = torch.maximum(dx.abs(), dy.abs()) - 0.88 * r
    # Upward triangle: the base below, two sides of slope 2.
    triangle = torch.maximum(dy - 0.8 * r, (2 * dx.abs() - dy - 1.1 * r) / math.sqrt(5))
    arm = 0.36 * r
    cross = torch.minimum(
        torch.maximum(dx.abs() - r, dy.abs() - arm),
        torch.maximum(dx.abs() - arm, dy.abs() - r),
    )
    return torch.where(kind == 0, circle, torch.where(kind == 1, square, torch.where(kind == 2, triangle, cross)))


def render(code, frames, height, width, generator=None):
    """[B, 3] codes -> clips f32 [B, frames, height, width, 3] in [-1, 1], random but for the code."""
    device, B = code.device, len(code)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(B, *shape, 1, 1, 1, device=device, generator=generator)

    def centres(count):
        return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count

    time = centres(frames).view(1, -1, 1, 1)
    y, x = centres(height).view(1, 1, -1, 1), centres(width).view(1, 1, 1, -1)

    def cover(kind, cx, cy, r):
        """Share of each pixel that the shape covers, from the distance of its centre to the edge in pixels."""
        return (0.5 - signed_distance(kind, x - cx, y - cy, r) * width).clamp(0, 1)[..., None]

    # Background: two dull colours along a random direction, waves of brightness that wander.
    grey, tint = uniform(0.12, 0.34, 2), uniform(-0.09, 0.09, 2, 3)
    ends = [(grey[:, i] + tint[:, i].squeeze(-1).squeeze(-1).transpose(1, 2).reshape(B, 1, 1, 3)).unsqueeze(1) for i in range(2)]
    angle = uniform(0, 2 * math.pi)
    along = (0.5 + 0.7 * ((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin())).clamp(0, 1)[..., None]
    clip = (ends[0] * (1 - along) + ends[1] * along).expand(B, frames, height, width, 3)
    for _ in range(2):
        angle, waves, phase, drift = uniform(0, 2 * math.pi), uniform(1, 2.5), uniform(0, 6.3), uniform(-4, 4)
        wave = (2 * math.pi * waves * (x * angle.cos() + y * angle.sin()) + phase + drift * time).sin()
        clip = clip + uniform(0, 0.035)[..., None] * wave[..., None]

    # Up to two grey shapes, partly outside the frame at times.
    for _ in range(2):
        kind = torch.randint(len(SHAPES), (B, 1, 1, 1), device=device, generator=generator)
        present = (uniform(0, 1) < 0.5)[..., None]
        angle, path = uniform(0, 2 * math.pi), uniform(0, 0.7)
        cx = uniform(0.1, 0.9) + path * angle.cos() * (time - 0.5)
        cy = uniform(0.1, 0.9) + path * angle.sin() * (time - 0.5)
        mask = cover(kind, cx, cy, uniform(0.06, 0.1)) * present
        clip = clip * (1 - mask) + uniform(0.42, 0.62)[..., None] * mask

    # The shape of the code: its whole path stays inside the frame.
    kind = code[:, 0].view(B, 1, 1, 1)
    colour = torch.tensor(PALETTE, device=device)[code[:, 1]].view(B, 1, 1, 1, 3)
    angle = (code[:, 2] * (2 * math.pi / len(DIRECTIONS))).view(B, 1, 1, 1)
    r, path = uniform(0.15, 0.2), uniform(0.3, 0.42)
    position = []
    for part in (angle.cos(), angle.sin()):
        reach = r + path * part.abs() / 2
        start = reach + (1 - 2 * reach) * uniform(0, 1)
        position.append(start + path * part * (time - 0.5))
    cx, cy = position
    clip = clip * (1 - 0.45 * cover(kind, cx + 0.03, cy + 0.045, r))
    mask = cover(kind, cx, cy, r)
    shade = (1 - 0.22 * (y - cy) / r).clamp(0.7, 1.15)[..., None]
    clip = clip * (1 - mask) + (colour * shade).clamp(0, 1) * mask
    return (clip * 2 - 1).clamp(-1, 1)


def random_codes(count, device, generator=None):
    sizes = NULL_CODE
    return torch.stack([torch.randint(n, (count,), device=device, generator=generator) for n in sizes], 1)


def to_tokens(clip):
    """[B, 2F, 2H, 2W, 3] -> [B, F*H*W, 24]; see the README for the order."""
    B, f, h, w, _ = clip.shape
    return clip.view(B, f // 2, 2, h // 2, 2, w // 2, 2, 3).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(B, -1, 24)


def to_clip(tokens, grid):
    f, h, w = grid
    B = len(tokens)
    return tokens.view(B, f, h, w, 2, 2, 2, 3).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, 2 * f, 2 * h, 2 * w, 3)


# ------------------------------------------------------------------------------------------------ the check

SATURATED = 0.38  # max - min over the channels, in [0, 1]: dull colours stay below 0.2, the palette is above 0.55


def track(clip):
    """Where the saturated pixels of each frame are.

    clip [B, T, H, W, 3] in [-1, 1] -> centre [B, T, 2] (x, y) and area [B, T] as shares of the frame, spread [B, T] (the rms
    distance from the centre over that of a disc of the same area: 1 for a disc, at most 1.3 for the other shapes) and mean colour
    [B, 3] in [0, 1].
    """
    pixels = ((clip + 1) / 2).clamp(0, 1)
    B, T, H, W, _ = pixels.shape
    # A ramp rather than a step, so that the edge of a shape moves its centre by less than a pixel.
    weight = ((pixels.amax(-1) - pixels.amin(-1) - SATURATED) / 0.1 + 0.5).clamp(0, 1)
    x = ((torch.arange(W, device=clip.device) + 0.5) / W).view(1, 1, 1, -1)
    y = ((torch.arange(H, device=clip.device) + 0.5) / H).view(1, 1, -1, 1)
    mass = weight.sum((2, 3)).clamp(min=1e-6)
    cx, cy = (weight * x).sum((2, 3)) / mass, (weight * y).sum((2, 3)) / mass
    squared = (weight * ((x - cx[..., None, None]) ** 2 + (y - cy[..., None, None]) ** 2)).sum((2, 3)) / mass
    area = mass / (H * W)
    # A disc of area a has a mean squared distance of a / 2 pi; a pixel itself has 1 / 6 of its size.
    spread = (squared / (area / (2 * math.pi) + 1 / (6 * H * W))).sqrt()
    colour = (weight[..., None] * pixels).sum((1, 2, 3)) / mass.sum(1)[:, None]
    return torch.stack([cx, cy], -1), area, spread, colour


def check(clip, code):
    """The centroid track: which clips show one moving shape in the direction (and colour) of their code.

    A clip passes when in every frame the saturated pixels are one shape (area 1.5 % to 16 % of the frame, spread below 1.4), their centre
    moves by 0.15 to 0.6 of the frame along a straight line (rms distance from it below 0.05), within 22.5 degrees of the direction,
    and their mean colour is closest to the code's in the palette. Returns a dict of bool [B] and `angle_error` in degrees.
    """
    centre, area, spread, colour = track(clip)
    T = centre.shape[1]
    time = (torch.arange(T, device=clip.device) + 0.5) / T - 0.5
    velocity = (centre * time[None, :, None]).sum(1) / (time * time).sum()
    line = centre.mean(1, keepdim=True) + velocity[:, None] * time[None, :, None]
    residual = ((centre - line) ** 2).sum(-1).mean(1).sqrt()
    angle = code[:, 2] * (2 * math.pi / len(DIRECTIONS))
    error = torch.atan2(velocity[:, 1], velocity[:, 0]) - angle
    error = torch.atan2(error.sin(), error.cos()).abs() * (180 / math.pi)
    speed = velocity.norm(dim=1)
    palette = torch.tensor(PALETTE, device=clip.device)
    nearest = F.normalize(colour - 0.25, dim=1) @ F.normalize(palette - 0.25, dim=1).T
    parts = {
        "one_shape": ((area > 0.015) & (area < 0.16) & (spread < 1.4)).all(1),
        "moves": (speed > 0.15) & (speed < 0.6) & (residual < 0.05),
        "direction": error < 22.5,
        "colour": nearest.argmax(1) == code[:, 1],
    }
    passed = torch.stack(list(parts.values())).all(0)
    return {"passed": passed, **parts, "angle_error": error}
