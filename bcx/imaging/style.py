"""How maps are drawn; `bcx.imaging.overlay` does it."""

from dataclasses import dataclass

from bcx.errors import check_name

#: Colours of a map by name, each with what speaks for a class in it, and what speaks against it, in words.
PALETTES = {
    "signed": ("purple", "green"),
    "turbo": ("red", "blue"),
    "viridis": ("yellow", "violet"),
    "grey": ("white", "black"),
}


@dataclass(frozen=True)
class MapStyle:
    """How maps are drawn: `colours`, a key of `PALETTES`; `contour`: lines of equal evidence in place of fillings."""

    colours: str = "signed"
    contour: bool = False

    def __post_init__(self) -> None:
        check_name(self.colours, PALETTES, "set of colours")

    @property
    def ends(self) -> tuple[str, str]:
        """What speaks for a class and what speaks against it, in words."""
        return PALETTES[self.colours]


#: As everything is drawn unless somebody chooses.
STYLE = MapStyle()
