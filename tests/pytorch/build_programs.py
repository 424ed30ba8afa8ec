"""Builds the exported programs that the tests of PyTorch read: ``python build_programs.py FOLDER``."""

import sys
from pathlib import Path

import torch
from torch import nn


def cnn():
    """Images (n, 3, 16, 16) to 10 classes; what a user's function for ``edgekit convert`` looks like."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
    ]
    net = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return net, (torch.rand(1, 3, 16, 16),)


class TwoInputs(nn.Module):
    """``total`` = 2 first + second, and three numbers made of the first."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, first, second):
        return {"wide": self.layer(first), "total": 2 * first + second}


class Eigenvalues(nn.Module):
    """Something that no phone computes, between two things that every one does."""

    def forward(self, x):
        return 2 * torch.linalg.eigvalsh(torch.relu(x))


class SameTwice(nn.Module):
    """One tensor as two outputs."""

    def forward(self, x):
        doubled = x * 2
        return doubled, doubled


class Counter(nn.Module):
    """Adds how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + self.calls


class WholeNumbers(nn.Module):
    """Takes int64, and gives a float and a truth under a name with a dot."""

    def forward(self, ids):
        return {"log.x": torch.log(ids.float() + 1), "large": ids > 2}


def nothing():
    """No module."""
    return 7


def save(module, inputs, path, **options):
    torch.export.save(torch.export.export(module, inputs, **options), path)


def main(folder):
    module, inputs = cnn()
    # An exported batch of one would be fixed.
    several = (torch.rand(2, 3, 16, 16),)
    save(module, several, folder / "training.pt2")
    module.eval()
    save(module, inputs, folder / "cnn.pt2")
    save(module, several, folder / "batch_2.pt2")
    free = {"input": {0: torch.export.Dim("batch")}}
    save(module, several, folder / "cnn_free_batch.pt2", dynamic_shapes=free)
    save(TwoInputs().eval(), (torch.rand(1, 4), torch.rand(1, 4)), folder / "two_inputs.pt2")
    free_height = {"input": {2: torch.export.Dim("height", min=8, max=64)}}
    save(
        nn.Sequential(nn.Conv2d(3, 4, 3)).eval(),
        inputs,
        folder / "free_height.pt2",
        dynamic_shapes=free_height,
    )
    save(SameTwice().eval(), (torch.rand(1, 4),), folder / "same_twice.pt2")
    save(Counter().eval(), (torch.rand(1, 4),), folder / "counter.pt2")
    save(WholeNumbers().eval(), (torch.ones(1, 4, dtype=torch.int64),), folder / "whole_numbers.pt2")
    save(Eigenvalues().eval(), (torch.rand(1, 4, 4),), folder / "eigenvalues.pt2")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
