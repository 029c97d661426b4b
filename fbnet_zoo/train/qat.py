"""Fine-tuning with simulated 8-bit arithmetic (quantization-aware training).

The trained graph is that of the int8 file for ExecuTorch: batch norm folded, rounding simulated by PT2E and XNNPACK's
quantizer. The trained values are copied back into a network of the zoo with identity batch norms, so they can be used
like any weights, and every int8 conversion starts from weights that tolerate rounding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo._require import CONVERTING, quiet, require
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.program import MODULE_PREFIX, export
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.model import FBNet

_PT2E = "torchao.quantization.pt2e"
_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"


def prepare(model: FBNet) -> nn.Module:
    """Return a trainable copy of a trained network that rounds like an int8 file.

    Args:
        model: trained network, left unchanged.

    Raises:
        ConversionError: the network cannot be exported, or the libraries cannot quantize it.
        MissingExtraError: a library is missing.
    """
    pt2e, entry = require(_PT2E, extra="executorch"), require(f"{_PT2E}.quantize_pt2e", extra="executorch")
    library = require(_QUANTIZER, extra="executorch")
    program = export(model, ConvertOptions(dynamic_batch=True))
    config = library.get_symmetric_quantization_config(is_per_channel=True, is_qat=True)
    try:
        with CONVERTING, quiet():
            graph = program.exported.module(check_guards=False)
            prepared = entry.prepare_qat_pt2e(graph, library.XNNPACKQuantizer().set_global(config))
            pt2e.allow_exported_model_train_eval(prepared)
    except Exception as error:  # the libraries' passes can raise anything
        raise ConversionError(f"{model.spec.name} cannot be trained for int8: {error}") from error
    return prepared.requires_grad_(True)


@torch.no_grad()
def adopt(model: FBNet, prepared: nn.Module) -> None:
    """Copy the values of a network returned by `prepare` back into the network it was made from.

    Each batch norm becomes an identity, apart from its beta.
    """
    values = {name.removeprefix(MODULE_PREFIX): value for name, value in prepared.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, blocks.ConvBNAct):
            _unfold(module, values, f"{name}.conv")
        elif isinstance(module, blocks.SqueezeExcitation):
            _fill(module.reduce, values, f"{name}.reduce")
            _fill(module.expand, values, f"{name}.expand")
            if isinstance(module.gate, nn.Hardsigmoid):  # the deploy form has its x / 6 + 1 / 2 in the convolution
                module.expand.weight.mul_(6)
                if module.expand.bias is not None:
                    module.expand.bias.sub_(0.5).mul_(6)
    if isinstance(model.classifier, nn.Linear | nn.Conv2d):
        _fill(model.classifier, values, "classifier")


def _unfold(module: blocks.ConvBNAct, values: Mapping[str, Tensor], name: str) -> None:
    if not isinstance(module.bn, nn.BatchNorm2d):
        _fill(module.conv, values, name)
        return
    module.conv.weight.copy_(values[f"{name}.weight"])
    if module.conv.bias is not None:
        module.conv.bias.zero_()
    module.bn.reset_running_stats()
    if module.bn.running_var is not None:
        module.bn.running_var.fill_(1 - module.bn.eps)
    module.bn.weight.fill_(1)
    module.bn.bias.copy_(values[f"{name}.bias"])


def _fill(layer: nn.Conv2d | nn.Linear, values: Mapping[str, Tensor], name: str) -> None:
    layer.weight.copy_(values[f"{name}.weight"].view(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(values[f"{name}.bias"])
