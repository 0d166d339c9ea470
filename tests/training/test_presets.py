"""The presets that come with the package: complete, and what they say of themselves holds."""

import pytest

from robustbench_med.models import registry
from robustbench_med.training import defenses, presets
from robustbench_med.training.spec import Layer


@pytest.mark.parametrize("name", registry.presets())
def test_a_preset_has_a_valid_recipe_for_every_model_and_defence(name: str) -> None:
    preset = presets.preset(name)
    assert set(preset.get("models", {})) <= set(registry.MODELS)
    for model in registry.MODELS:
        recipe = presets.choose_recipe(model, name, (), {})
        assert recipe.steps or recipe.epochs
    for defense in preset.get("defenses", {}):
        plan = defenses.plan("late", defense, {}, preset)
        assert presets.choose_recipe("late", name, plan.training, {}).batch_size >= 2


@pytest.mark.parametrize(
    ("model", "augmentation"), [("late", "strong"), ("mail", "strong"), ("robust-mail", "light")]
)
def test_real_stops_by_its_patience_and_keeps_weights_by_auc(model: str, augmentation: str) -> None:
    recipe = presets.choose_recipe(model, "real", (), {})
    assert (recipe.keep, recipe.augmentation) == ("auc", augmentation)
    assert recipe.early_stop is not None
    assert (recipe.ema is None) == (model == "robust-mail")
    attacked = presets.choose_recipe(model, "real", (Layer(name="pgd-at"),), {})
    assert (attacked.keep, attacked.label_smoothing, attacked.mixup) == ("auc", 0, 0)
