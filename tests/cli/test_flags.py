"""What is wrong with an argument is said of the flag that was typed."""

import pytest

from cases import DATA
from jaxhlm.cli.flags import in_flags
from jaxhlm.cli.main import main

POWER = ["power", "Reaction ~ Days + (1 | Subject)", str(DATA / "sleepstudy.csv"), "--beta", "1,2"]
POWER += ["--sd", "1", "--test", "Days"]
FIT = ["fit", *POWER[1:3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*POWER, "--sigma", "-1"], "--sigma -1.0 must not be negative"),
        ([*POWER, "--sigma", "1", "--n", "0"], "--n 0 must be a whole number"),
        ([*POWER, "--sigma", "1", "--alpha", "3"], "--alpha 3.0 must lie between 0 and 1"),
        (
            [*POWER, "--sigma", "1", "--ml", "--df", "kenward-roger"],
            "fit without --ml, or use --df satterthwaite",
        ),
        ([*FIT, "--by", "nothing"], "--by nothing is not a column of data"),
        ([*FIT, "--by", "Days", "--fdr", "3"], "--fdr 3.0 must lie between 0 and 1"),
        ([*FIT, "--by", "Days", "--top", "0"], "--top 0 must be a whole number"),
    ],
)
def test_messages_name_flags(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("responses_in='rows' or by=['a', 'b']", "--responses-in rows or --by ['a', 'b']"),
        ("df == 3, and df=3", "df == 3, and --df 3"),
        ("'df=3' is a hypothesis; newdata=d", "'df=3' is a hypothesis; newdata=d"),
        ("give df=; it's by='a b'", "give --df; it's --by 'a b'"),
        ("go on with by=True, or df=False", "go on with --by, or without --df"),
    ],
)
def test_only_arguments_that_are_flags(message, shown):
    assert in_flags(message, {"df", "by", "responses_in"}) == shown
