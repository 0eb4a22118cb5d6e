"""Models of transformers, made from small configurations: surgery, training, checkpoints."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")

PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
SMALL = {**PLAIN, "intermediate_size": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IMAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
WORDS = torch.arange(2 * 7).reshape(2, 7) + 1


def make(name: str, **options: Any) -> nn.Module:
    """A model by the name of its class, and its configuration by its first word."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model: nn.Module = kind(kind.config_class(**options))
    return model.eval()


# class: options, what is replaced, sites, sites whose forward changes, whether it reads images
MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...], int, int, bool]] = {
    "BertForSequenceClassification": ({**SMALL, "hidden_act": "relu"}, ("relu",), 2, 0, False),
    "BertForMaskedLM": (SMALL, ("gelu",), 3, 3, False),
    "DistilBertForSequenceClassification": (
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50, "activation": "relu"},
        *(("relu",), 2, 0, False),
    ),
    "OPTForCausalLM": ({**PLAIN, "ffn_dim": 32, "word_embed_proj_dim": 16}, ("relu",), 2, 0, False),
    "GPT2LMHeadModel": (
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0},
        *(("gelu",), 2, 2, False),
    ),
    "LlamaForCausalLM": ({**PLAIN, "intermediate_size": 32}, ("silu",), 2, 2, False),
    "ResNetForImageClassification": ({**IMAGES, "embedding_size": 8, "layer_type": "basic"}, ("relu",), 5, 0, True),
    "RegNetForImageClassification": ({**IMAGES, "embedding_size": 8, "groups_width": 8}, ("relu",), 9, 0, True),
    "ConvNextForImageClassification": ({**IMAGES, "num_stages": 2}, ("gelu",), 2, 2, True),
    "ViTForImageClassification": (
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 32,
            "patch_size": 16,
        },
        *(("gelu",), 2, 2, True),
    ),
}


def logits(model: nn.Module, images: bool) -> Tensor:
    output: Tensor = model(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32) if images else WORDS).logits
    return output


@pytest.mark.parametrize("name", MODELS)
def test_surgery_and_back(name: str) -> None:
    options, replace, sites, changed, images = MODELS[name]
    model = make(name, **options)
    state = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        before = logits(model, images)
    report = apply(model, "b_silu", replace=replace)
    assert (len(report.sites), sum(site.forward_changed for site in report.sites)) == (sites, changed)
    output = logits(model, images)
    assert torch.equal(output, before) == (changed == 0)
    torch.autograd.backward(output.sum())
    model.load_state_dict(state, strict=True)
    remove(model)
    with torch.no_grad():
        assert torch.equal(logits(model, images), output)
    assert not any(isinstance(module, SugarReLU) for module in model.modules())


def bert(**options: Any) -> nn.Module:
    return make("BertForSequenceClassification", **{**SMALL, "hidden_act": "relu", **options})


def test_a_bert_trains_with_relus_gradient_and_with_anothers() -> None:
    grads: list[list[Any]] = []
    for g in (None, "relu", "b_silu"):
        model: Any = bert()
        if g is not None:
            apply(model, g)
        model(WORDS, labels=torch.tensor([0, 1])).loss.backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for plain, own in zip(*grads[:2], strict=True):
        assert torch.equal(plain, own)
    assert not torch.equal(grads[0][0], grads[2][0])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool) -> None:
    model: Any = bert()
    apply(model, "b_silu")
    model.train()
    model(WORDS, labels=torch.tensor([0, 1])).loss.backward()
    wanted, calls = [parameter.grad for parameter in model.parameters()], list[str]()
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    for module in model.modules():
        if isinstance(module, SugarReLU):
            module.register_forward_hook(lambda *_: calls.append("forward"))
    model(WORDS, labels=torch.tensor([0, 1])).loss.backward()
    assert len(calls) == 4  # each of the two once more for the backward pass
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_save_pretrained_passes_between_relu_and_sugar(tmp_path: Path) -> None:
    model: Any = bert()
    apply(model, "b_silu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(WORDS, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True, local_files_only=True)
    assert not any(info.values())
    assert type(loaded.bert.encoder.layer[0].intermediate.intermediate_act_fn) is nn.ReLU
    with torch.no_grad():
        assert torch.equal(logits(loaded.eval(), images=False), logits(model, images=False))


def test_an_activation_module_outside_the_model_is_said_and_refused() -> None:
    """RoBERTa's head calls the library's own GELU module, which belongs to no model."""
    model = make("RobertaForMaskedLM", **{**SMALL, "hidden_act": "relu"})
    report = apply(model, "b_silu")
    assert len(report.sites) == 2
    assert [line.startswith("lm_head (RobertaLMHead): gelu(...) at ") for line in report.left] == [True]
    with pytest.raises(SurgeryError, match=r"lm_head \(RobertaLMHead\): gelu"):
        apply(model, "b_silu", replace=("relu", "gelu"))
    with pytest.raises(SurgeryError, match=r"lm_head \(RobertaLMHead\): torch.fx cannot trace it: .*submodule"):
        apply(model, "b_silu", replace=("relu", "gelu"), trace=True)
