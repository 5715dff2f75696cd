"""Errors name fields; commands translate them into options."""

import pytest

from genjax import models
from genjax.errors import ConfigError, InputError
from genjax.models import gan
from genjax.training import command_line
from genjax.training.options import Options


def test_a_field_is_named_as_python_knows_it():
    with pytest.raises(ConfigError, match=r"^z_dim 0: must be at least 1$") as error:
        gan.recipe(gan.Config(z_dim=0))
    assert (error.value.field, error.value.value) == ("z_dim", 0)
    assert isinstance(error.value, InputError)
    assert isinstance(error.value, ValueError)


def test_commands_name_options_in_the_advice_too():
    error = ConfigError("label_smoothing", 0.1, "only with `loss` minimax, or `save_every` 5")
    option = lambda field: command_line.option_of(Options, field)
    expected = "--model.label-smoothing 0.1: only with --model.loss minimax, or --save-every 5"
    assert error.as_option(option) == expected
    assert ConfigError("shape", "7x8", "odd").as_option(option) == "--resolution 7x8: odd"
    assert ConfigError("data", None, "give one").as_option(option) == "--data: give one"


def test_texts_from_outside_are_one_printable_line():
    error = ConfigError("out", "a\n\x1b[31m", "no")
    assert str(error) == "out a\\n\\x1b[31m: no"
    assert error.as_option(lambda field: f"--{field}") == "--out a\\n\\x1b[31m: no"


@pytest.mark.parametrize("name", models.RECIPES)
def test_no_library_message_of_a_config_names_an_option(name):
    """Each field of each Config, with values that it may refuse."""
    module, messages = __import__(models.RECIPES[name], fromlist=["Config"]), []
    for field in module.Config.__dataclass_fields__:
        for value in (0, -1, -1.0, 2**60, float("nan"), "nonsense", (0,), ()):
            # other errors: of another type, which models.build refuses
            others = (TypeError, AttributeError, ArithmeticError, LookupError)
            try:
                module.check(module.Config(**{field: value}))
            except ConfigError as error:
                messages.append(str(error))
            except others:
                continue
    assert len(messages) > 50
    assert not [message for message in messages if "--" in message]
