"""The network: patches of a noisy video, a time and a code -> the velocity of each patch."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import scenes

# Rotary frequencies. Fine ones count tokens, coarse ones shares of the frame (or clip), so that the same head can look at its
# neighbours and at a place of the scene whatever the grid. Both halves together also tell how fine the grid is.
FINE_SPACE, COARSE_SPACE = [1.2, 0.8, 0.53, 0.35, 0.23, 0.15], [math.pi * k for k in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)]
FINE_TIME, COARSE_TIME = [1.2, 0.8, 0.5, 0.3], [math.pi * k for k in (0.5, 1.0, 1.5, 2.0)]

CONFIG = dict(
    hidden_size=256,
    num_hidden_layers=8,
    num_attention_heads=4,
    head_dim=64,
    intermediate_size=1024,
    modulation_rank=64,
    channels=3,
    patch_size=[2, 2, 2],
    rope=dict(
        time=FINE_TIME + COARSE_TIME,
        height=FINE_SPACE + COARSE_SPACE,
        width=FINE_SPACE + COARSE_SPACE,
    ),
    layer_norm_eps=1e-6,
)
LOCAL_BIAS, LOCAL_GAIN = 2.0, 1.5  # 90 % of a local head's mass in 10 to 20 % of the 64 x 64 blocks at the start
TIME_FEATURES = 128  # pairs; frequencies from 256 down to 1/16 rad: larger ones would cost precision where cos is approximate


def rotary_tables(grid, config=CONFIG):
    """cos and sin, f32 [tokens, 32]; see the README."""
    axes = []
    for count, frequencies in zip(grid, (config["rope"][a] for a in ("time", "height", "width"))):
        index = torch.arange(count, dtype=torch.float64)
        half = len(frequencies) // 2
        fine = index[:, None] * torch.tensor(frequencies[:half], dtype=torch.float64)
        coarse = ((index + 0.5) / count)[:, None] * torch.tensor(frequencies[half:], dtype=torch.float64)
        axes.append(torch.cat([fine, coarse], 1))
    t, h, w = axes
    f, y, x = grid
    angles = torch.cat(
        [
            t[:, None, None].expand(f, y, x, -1),
            h[None, :, None].expand(f, y, x, -1),
            w[None, None, :].expand(f, y, x, -1),
        ],
        -1,
    ).reshape(f * y * x, -1)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """x [B, N, heads, 64], tables [N, 32]; element i turns with element i + 32."""
    a, b = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        d, h, hd = CONFIG["hidden_size"], CONFIG["num_attention_heads"], CONFIG["head_dim"]
        rank, f = CONFIG["modulation_rank"], CONFIG["intermediate_size"]
        self.modulation_in, self.modulation_out = nn.Linear(d, rank), nn.Linear(rank, 6 * d)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.qk_gain = nn.Parameter(torch.ones(2 * h, hd))
        self.up, self.down = nn.Linear(d, f), nn.Linear(f, d)

    def initialise(self, third):
        for linear in (self.modulation_in, self.qkv, self.o, self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.modulation_out.weight)
        nn.init.zeros_(self.modulation_out.bias)
        # q, k and v each have d rows of their own.
        d = CONFIG["hidden_size"]
        nn.init.xavier_uniform_(self.qkv.weight[:d])
        nn.init.xavier_uniform_(self.qkv.weight[d : 2 * d])
        nn.init.xavier_uniform_(self.qkv.weight[2 * d :])
        # Some heads start local: a constant part of q and k in the fine rotary channels makes scores fall with distance. Head 0
        # looks at its surroundings in time and space, head 1 at nearby rows of nearby frames, head 2 of every second block at
        # the same place throughout the clip; the others start free. Nothing holds any head to that.
        bias = self.qkv.bias.view(3, CONFIG["num_attention_heads"], CONFIG["head_dim"])
        time, height, width = range(0, 4), range(8, 14), range(20, 26)
        local = [[*time, *height, *width], [*time, *height]] + ([[*height, *width]] if third else [])
        for head, channels in enumerate(local):
            rows = slice(head * CONFIG["head_dim"], (head + 1) * CONFIG["head_dim"])
            self.qkv.weight[:d][rows] *= 0.5
            self.qkv.weight[d : 2 * d][rows] *= 0.5
            bias[:2, head, channels] = LOCAL_BIAS
            self.qk_gain[[head, CONFIG["num_attention_heads"] + head]] = LOCAL_GAIN

    def modulations(self, c):
        """[B, d] -> six of [B, 1, d]: shift, scale, gate of the attention, then of the MLP."""
        return self.modulation_out(F.silu(self.modulation_in(c)))[:, None].chunk(6, -1)

    def heads(self, x, shift, scale, cos, sin):
        """q, k, v [B, N, heads, 64] as attention takes them, q and k in f32."""
        B, N, d = x.shape
        h = CONFIG["num_attention_heads"]
        qkv = self.qkv(F.layer_norm(x, (d,), eps=CONFIG["layer_norm_eps"]) * (1 + scale) + shift)
        qk, v = qkv[..., : 2 * d].reshape(B, N, 2 * h, -1), qkv[..., 2 * d :].reshape(B, N, h, -1)
        qk = F.rms_norm(qk.float(), (CONFIG["head_dim"],), eps=CONFIG["layer_norm_eps"]) * self.qk_gain
        q, k = rotate(qk, cos, sin).chunk(2, 2)
        return q, k, v

    def forward(self, x, c, cos, sin):
        B, N, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulations(c)
        q, k, v = self.heads(x, shift1, scale1, cos, sin)
        q, k, v = (t.to(v.dtype).transpose(1, 2) for t in (q, k, v))
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, d)
        x = x + gate1 * self.o(a)
        h = F.layer_norm(x, (d,), eps=CONFIG["layer_norm_eps"]) * (1 + scale2) + shift2
        return x + gate2 * self.down(F.silu(self.up(h)))


class Drifters(nn.Module):
    def __init__(self):
        super().__init__()
        d, width = CONFIG["hidden_size"], 24
        self.patch, self.position = nn.Linear(width, d), nn.Linear(CONFIG["head_dim"], d, bias=False)
        self.time_in, self.time_out = nn.Linear(2 * TIME_FEATURES, d), nn.Linear(d, d)
        self.codes = nn.ModuleList(nn.Embedding(n + 1, d) for n in scenes.NULL_CODE)
        self.blocks = nn.ModuleList(Block() for _ in range(CONFIG["num_hidden_layers"]))
        self.final_modulation, self.final = nn.Linear(d, 2 * d), nn.Linear(d, width)
        frequencies = 256.0 * (1 / 4096) ** (torch.arange(TIME_FEATURES) / (TIME_FEATURES - 1))
        self.register_buffer("time_frequencies", frequencies, persistent=False)
        with torch.no_grad():
            for linear in (self.patch, self.position):
                nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(self.patch.bias)
            for linear in (self.time_in, self.time_out):
                nn.init.normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)
            for embedding in self.codes:
                nn.init.normal_(embedding.weight, std=0.02)
            for linear in (self.final_modulation, self.final):
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)
            for i, block in enumerate(self.blocks):
                block.initialise(third=i % 2 == 1)

    def condition(self, t, code):
        with torch.autocast(t.device.type, enabled=False):  # little work, and the time should not be rounded
            angles = t[:, None] * self.time_frequencies
            time = self.time_out(F.silu(self.time_in(torch.cat([angles.cos(), angles.sin()], -1))))
            return F.silu(time + sum(embedding(code[:, i]) for i, embedding in enumerate(self.codes)))

    def start(self, latents, cos, sin):
        # The residual stream is f32, also where products are not.
        return self.patch(latents).float() + self.position(torch.cat([cos, sin], -1)).float()

    def finish(self, x, c):
        shift, scale = self.final_modulation(c)[:, None].chunk(2, -1)
        return self.final(F.layer_norm(x, (x.shape[-1],), eps=CONFIG["layer_norm_eps"]) * (1 + scale) + shift)

    def forward(self, latents, t, code, cos, sin, blocks=None):
        """latents [B, N, 24], t [B], code [B, 3], tables [N, 32] -> velocity [B, N, 24]. `blocks`: compiled ones."""
        c = self.condition(t, code)
        x = self.start(latents, cos, sin)
        for block in self.blocks if blocks is None else blocks:
            x = block(x, c, cos, sin)
        return self.finish(x, c)
