"""Dense heads: the maps are gradient times activation as autograd has it, and add up to the logit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bcx.errors import ConfigError
from bcx.networks.dense import account_dense


@pytest.fixture(scope="module")
def head():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(4 * 3 * 5, 16),
            nn.ReLU(),
            nn.BatchNorm1d(16),
            nn.Dropout(0.5),
            nn.Linear(16, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )
        layers[3].running_mean.normal_()
        layers[3].running_var.uniform_(0.5, 2)
        nn.init.uniform_(layers[3].weight, -2, 2)
        nn.init.normal_(layers[3].bias)
    return layers.eval()


@pytest.fixture
def features():
    return torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(1)).relu()


@pytest.mark.parametrize("number", range(3))
def test_maps_are_gradient_times_activation_as_autograd_has_it(head, features, number):
    features.requires_grad_()
    logits = head(features)
    (gradient,) = torch.autograd.grad(logits[:, number].sum(), features)
    with torch.inference_mode():
        out = account_dense(head, features.detach())
    torch.testing.assert_close(out.maps[:, number], 15 * (gradient * features.detach()).sum(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.logits, logits.detach(), rtol=0, atol=1e-6)


def test_what_the_maps_leave_is_what_the_biases_add(head, features):
    """The rest is the logit of the same pieces without a picture: it is found here by shrinking the picture a little.

    Inside one piece the logit is linear, so logit(t a) = t * (sum of g a) + rest for t near 1.
    """
    head, features = head.double(), features.double()
    with torch.inference_mode():
        out = account_dense(head, features)
        nearly = 1 - 1e-7
        slope = (out.logits - head(nearly * features)) / (1 - nearly)
    torch.testing.assert_close(out.rest, out.logits - slope, rtol=0, atol=1e-5)
    head.float()


def test_one_linear_layer_after_flattening_leaves_its_bias(features):
    with torch.inference_mode():
        last = nn.Linear(60, 3)
        out = account_dense(nn.Sequential(nn.Flatten(), last), features)
        torch.testing.assert_close(out.rest, last.bias.expand(6, 3), rtol=0, atol=1e-5)


def test_a_layer_that_is_not_linear_in_pieces_is_refused(features):
    with pytest.raises(ConfigError, match="Sigmoid"):
        account_dense(nn.Sequential(nn.Flatten(), nn.Linear(60, 3), nn.Sigmoid()), features)
