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
    save(Eigenvalues().eval(), (torch.rand(1, 4, 4),), folder / "eigenvalues.pt2")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
