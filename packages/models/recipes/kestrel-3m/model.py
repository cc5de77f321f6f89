"""The network: a BiFormer (Zhu et al. 2023, arXiv:2303.08810) at half the width of its smallest, for pictures of 160×160.

Four stages of 40×40, 20×20, 10×10 and 5×5 tokens. In the first three, attention is bi-level routing: the map is cut into 5×5
regions, every region picks the regions whose mean key suits its mean query best, and its tokens attend to the tokens of those.
One routing holds for all heads, and no gradient goes through the choice. The last stage is dense.

Unlike the paper's: softmax scale head_dim^-0.5 (theirs is channels^-0.5), and 2, 4 and 8 of 25 regions (theirs: 1, 4 and 16 of 49).
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

IMAGE, CLASSES = 160, 101
DIMS, DEPTHS, TOP_K = (32, 64, 128, 256), (2, 2, 8, 2), (2, 4, 8, None)
HEAD_DIM, MLP_RATIO, REGIONS, EPSILON = 32, 3, 5, 1e-6


def by_region(x, side, regions):
    """[B, H, side², D] in rows of tokens -> [B, R, H, n, D], regions in rows, n tokens in each"""
    B, H, _, D = x.shape
    step = side // regions
    x = x.view(B, H, regions, step, regions, step, D).permute(0, 2, 4, 1, 3, 5, 6)
    return x.reshape(B, regions * regions, H, step * step, D)


def by_row(x, side, regions):
    """The inverse of by_region."""
    B, _, H, _, D = x.shape
    step = side // regions
    x = x.view(B, regions, regions, H, step, step, D).permute(0, 3, 1, 4, 2, 5, 6)
    return x.reshape(B, H, side * side, D)


def choose_regions(q, k, top_k):
    """[B, R, H, n, D] each -> [B, R, top_k]: for each region those that suit it best, over all heads together"""
    q, k = (t.detach().float().mean(3).flatten(2) for t in (q, k))
    return (q @ k.mT).topk(top_k, dim=-1).indices


def routed_attention(q, k, v, side, regions, top_k):
    """q, k, v [B, H, side², D] -> [B, H, side², D]"""
    q, k, v = (by_region(t, side, regions) for t in (q, k, v))
    B, R, H, n, D = q.shape
    chosen = choose_regions(q, k, top_k)
    batch = torch.arange(B, device=q.device)[:, None, None]
    # [B, R, top_k, H, n, D] -> [B · R, H, top_k · n, D]
    k, v = (t[batch, chosen].transpose(2, 3).reshape(B * R, H, top_k * n, D) for t in (k, v))
    out = F.scaled_dot_product_attention(q.reshape(B * R, H, n, D), k, v)
    return by_row(out.view(B, R, H, n, D), side, regions)


class Attention(nn.Module):
    def __init__(self, channels, side, top_k):
        super().__init__()
        self.heads, self.side, self.top_k = channels // HEAD_DIM, side, top_k
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))
        self.o = nn.Linear(channels, channels)
        # What is near is added as a convolution of the values ("LePE").
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)

    def forward(self, x, dense):
        """x [B, N, C]"""
        B, N, C = x.shape
        v = self.v(x)
        q, k, heads = (t.view(B, N, self.heads, HEAD_DIM).transpose(1, 2) for t in (self.q(x), self.k(x), v))
        if dense or self.top_k is None:
            out = F.scaled_dot_product_attention(q, k, heads)
        else:
            out = routed_attention(q, k, heads, self.side, REGIONS, self.top_k)
        near = self.near(v.transpose(1, 2).reshape(B, C, self.side, self.side))
        return self.o(out.transpose(1, 2).reshape(B, N, C) + near.flatten(2).transpose(1, 2))


class Block(nn.Module):
    def __init__(self, channels, side, top_k, drop):
        super().__init__()
        self.side, self.drop = side, drop
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels, EPSILON), nn.LayerNorm(channels, EPSILON)
        self.attention = Attention(channels, side, top_k)
        self.up, self.down = nn.Linear(channels, MLP_RATIO * channels), nn.Linear(MLP_RATIO * channels, channels)

    def dropped(self, branch):
        """Stochastic depth: in training, leaves the branch out for some pictures."""
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop
        return branch * (kept / (1 - self.drop)).to(branch.dtype)

    def forward(self, x, dense):
        """x [B, C, side, side]"""
        B, C = x.shape[:2]
        x = (x + self.position(x)).flatten(2).transpose(1, 2)
        x = x + self.dropped(self.attention(self.norm1(x), dense))
        x = x + self.dropped(self.down(F.gelu(self.up(self.norm2(x)))))
        return x.transpose(1, 2).reshape(B, C, self.side, self.side)


class Kestrel(nn.Module):
    def __init__(self, drop=0.0, classes=CLASSES):
        super().__init__()
        conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o))
        self.stem = nn.Sequential(conv(3, DIMS[0] // 2), nn.GELU(), conv(DIMS[0] // 2, DIMS[0]))
        self.merges = nn.ModuleList(conv(a, b) for a, b in zip(DIMS, DIMS[1:]))
        self.stages, done = nn.ModuleList(), 0
        for i, (channels, depth, top_k) in enumerate(zip(DIMS, DEPTHS, TOP_K)):
            side = IMAGE // 4 // 2**i
            rates = [drop * (done + j) / (sum(DEPTHS) - 1) for j in range(depth)]
            self.stages.append(nn.ModuleList(Block(channels, side, top_k, rate) for rate in rates))
            done += depth
        self.norm = nn.BatchNorm2d(DIMS[-1])
        self.head = nn.Linear(DIMS[-1], classes)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.trunc_normal_(p, std=0.02)

    def forward(self, x, dense=False):
        """x [B, 3, 160, 160] normalised -> logits [B, classes]"""
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.merges[i - 1](x)
            for block in stage:
                x = block(x, dense)
        return self.head(self.norm(x).mean((2, 3)))


def fold(model):
    """The weights for inference, {name: array}: batch norms merged into the convolutions before them and the head behind."""
    state = {name: value.detach().double().cpu() for name, value in model.state_dict().items()}
    folded = {}

    def affine(name):
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        return scale, state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale

    convolutions = ("stem.0", "stem.2", "merges.0", "merges.1", "merges.2")
    pairs = [(f"{name}.0", f"{name}.1") for name in convolutions]
    for conv, norm in pairs:
        scale, shift = affine(norm)
        folded[f"{conv}.weight"], folded[f"{conv}.bias"] = state[f"{conv}.weight"] * scale[:, None, None, None], shift
    scale, shift = affine("norm")
    folded["head.weight"] = state["head.weight"] * scale
    folded["head.bias"] = state["head.bias"] + state["head.weight"] @ shift
    norms = tuple(f"{norm}." for _, norm in pairs) + ("norm.",)
    for name, value in state.items():
        if name not in folded and not name.startswith(norms):
            folded[name] = value
    return {name: value.float().numpy() for name, value in folded.items()}


class Folded(Kestrel):
    """The same network without batch norms, made of what `fold` gives."""

    def __init__(self, weights):
        super().__init__()
        for sequence in (self.stem, *self.merges):
            for module in ([sequence[0], sequence[2]] if sequence is self.stem else [sequence]):
                old = module[0]
                module[0] = nn.Conv2d(old.in_channels, old.out_channels, 3, 2, 1)
                module[1] = nn.Identity()
        self.norm = nn.Identity()
        self.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.eval()
