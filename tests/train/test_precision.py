"""Depthwise convolutions in float32: nearer to the exact answer, and nothing is left behind."""

import timm
import torch

from bcx.train.precision import depthwise_in_float32


def answer(network, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return network(batch).float()


def test_answers_agree_and_the_network_is_as_before():
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    batch = torch.randn(2, 3, 64, 64)
    before = answer(network, batch)
    with depthwise_in_float32(network) as convolutions:
        assert {5, 3} == {convolution.kernel_size[0] for convolution in convolutions}
        asked = []
        hook = convolutions[0].register_forward_hook(lambda module, given, out: asked.append(out.dtype))
        within = answer(network, batch)
        hook.remove()
    assert asked == [torch.bfloat16]  # what follows goes on in bfloat16
    exact = network(batch)
    scale = exact.abs().max()
    assert (within - exact).abs().max() < 0.05 * scale
    torch.testing.assert_close(answer(network, batch), before, rtol=0, atol=0)


def test_gradients_reach_the_weights():
    network = timm.create_model("mobilenetv2_035", num_classes=3)
    with depthwise_in_float32(network) as convolutions:
        answer(network, torch.randn(2, 3, 64, 64)).sum().backward()
    assert convolutions
    assert all(convolution.weight.grad.abs().sum() > 0 for convolution in convolutions)
