"""The payloads of the compute tasks."""

from typing import Annotated, Any, ClassVar, Literal, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.contracts.names import ResultsDirectory, Source
from tasks.contracts.schema import BLANK, arrange, blank_object, expect, one_of_two

ImageFormat = Literal["jpeg", "png", "webp", "avif", "tiff"]
Metadata = Literal["keep", "strip"]


class Payload(BaseModel):
    """Base of the payloads of compute tasks. An unknown key is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    form_order: ClassVar[tuple[str, ...]] = ()
    """Names of optional fields in the order in which a form shows them; the others follow."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema: Any = handler(core_schema)
        arrange(handler.resolve_ref_schema(schema), cls.form_order)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _without_fields_left_blank(cls, given: Any) -> Any:
        """Drop fields left blank: Prefect's forms send null, or an object of blank fields."""
        if not isinstance(given, dict):
            return given
        fields = cast("dict[str, Any]", given)
        return {name: value for name, value in fields.items() if not cls._is_blank(name, value)}

    @classmethod
    def _is_blank(cls, name: str, value: Any) -> bool:
        """Whether a field was left blank: null, or an object of blank fields."""
        if not isinstance(value, dict):
            return value is None
        inner = {
            key: of for key, of in cast("dict[str, Any]", value).items() if key != "__prefect_kind"
        }
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        if isinstance(kind, type) and issubclass(kind, Payload):
            return all(of == "" or kind._is_blank(key, of) for key, of in inner.items())
        return not inner


def nothing() -> Any:
    """Return None: the default of an optional field whose schema does not allow null."""
    # Not `| None`: the schema would then refuse a wrong value as "not valid under any of …".
    return None


def _most_pixels(title: str, description: str, example: int) -> Any:
    return Field(
        default_factory=nothing,
        title=title,
        description=f"{description}, and none is enlarged.",
        ge=1,
        le=1_000_000,
        examples=[example],
    )


MaxWidth = Annotated[
    int, _most_pixels("Max width", "The most pixels across; a wider picture is shrunk", 1920)
]
MaxHeight = Annotated[
    int, _most_pixels("Max height", "The most pixels down; a taller picture is shrunk", 1080)
]
KeptMetadata = Annotated[
    Metadata,
    Field(
        title="Metadata",
        description="keep, or strip: no EXIF (with the place where a photo was taken), IPTC, XMP, "
        "comment or thumbnail. Orientation and colour profile always stay.",
        examples=["strip"],
    ),
]


class CompressImages(Payload):
    """The payload of compress-images: pictures, and the share of bytes that each may keep."""

    source: Source
    ratio: Annotated[
        float,
        Field(
            title="Ratio",
            description="The most that each file may keep of its bytes, over 0 and up to 1: "
            "0.4 makes every file at most 40 % of its size.",
            gt=0,
            le=1,
            examples=[0.4],
        ),
    ]
    max_width: MaxWidth
    max_height: MaxHeight
    metadata: KeptMetadata = "keep"


class ConvertImages(Payload):
    """The payload of convert-images: pictures, and the format to write."""

    source: Source
    format: Annotated[
        ImageFormat, Field(title="Format", description="The format to write.", examples=["webp"])
    ]
    max_width: MaxWidth
    max_height: MaxHeight
    metadata: KeptMetadata = "keep"


class FindPrimes(Payload):
    """The payload of find-primes: the upper bound of the primes to list."""

    upper_bound: Annotated[
        int,
        Field(
            title="Upper bound",
            description="All primes up to and including this number, as Parquet (column `prime`).",
            ge=2,
            le=10**10,
            examples=[1_000_000],
        ),
    ]


NumbersFormat = Literal["csv", "npy", "parquet"]


class GenerateNumbers(Payload):
    """Files of random numbers that the job generates itself, as a test load."""

    files: Annotated[
        int, Field(title="Files", description="How many.", ge=1, le=100_000, examples=[40])
    ]
    numbers: Annotated[
        int,
        Field(
            title="Numbers",
            description="How many numbers each file holds, uniform in [0, 1).",
            ge=1,
            le=100_000_000,
            examples=[1_000_000],
        ),
    ]
    # No default in the schema: the UI's form would fill it in, and so submit a `generate` that
    # the user did not ask for.
    seed: Annotated[
        int,
        Field(
            default_factory=lambda: 0,
            title="Seed",
            description="The same seed makes the same numbers; 0 if left out.",
            ge=0,
            le=2**53,  # the integers that JSON carries exactly in every language
            json_schema_extra=expect("a whole number, such as 7", type="integer"),
            examples=[7],
        ),
    ]
    format: Annotated[
        NumbersFormat,
        Field(
            default_factory=lambda: "npy",
            title="Format",
            description="Format of the files; npy if left out.",
            examples=["csv"],
        ),
    ]


_BLANK_GENERATE = blank_object(files=BLANK, numbers=BLANK, seed=BLANK, format=BLANK)


class AverageFiles(Payload):
    """The payload of average-files: files of numbers, averaged index by index."""

    model_config = ConfigDict(json_schema_extra=one_of_two("source", "generate", _BLANK_GENERATE))

    source: Annotated[
        Source,
        Field(
            default_factory=nothing,
            title="Source",
            description="Files of as many numbers each, .csv, .tsv, .txt or .dat (as they are or "
            "compressed), .npy, .parquet: a file, folder or glob under the inputs root, such as "
            "data/*.csv, an s3:// address, or job://<job id>/<path>: a result of another job.",
            examples=["data/*.csv"],
        ),
    ]
    generate: Annotated[
        GenerateNumbers,
        Field(
            default_factory=nothing,
            title="Generate",
            description="Instead of a source: files of random numbers to make and average.",
            examples=[{"files": 40, "numbers": 1_000_000}],
        ),
    ]
    also: Annotated[
        list[Literal["csv", "npy"]],
        Field(
            title="Also",
            description="The means are published as Parquet, and in these formats too.",
            max_length=2,
            examples=[["csv"]],
        ),
    ] = []
    not_finite: Annotated[
        Literal["refuse", "skip"],
        Field(
            title="Not finite",
            description="What to do where a file holds NaN, an infinity, a null, NA or an empty "
            "field: refuse the job, or skip it, so that the mean at that index is of the other "
            "files.",
            examples=["skip"],
        ),
    ] = "refuse"
    column: Annotated[
        str,
        Field(
            default_factory=nothing,
            title="Column",
            description="Of files of several columns, the one to average: its name, or its number "
            "from 1 on; * for all, row after row (the default for text).",
            min_length=1,
            max_length=500,
            examples=["temperature"],
        ),
    ]
    header: Annotated[
        int,
        Field(
            default_factory=nothing,
            title="Header",
            description="Of text: lines before the first row, comments aside. Left out, a first "
            "line of names is a header.",
            ge=0,
            le=1_000,
            examples=[1],
        ),
    ]
    delimiter: Annotated[
        Literal[",", ";", "|", "tab", "blank"],
        Field(
            default_factory=nothing,
            title="Delimiter",
            description="Of text: the separator of the fields of a row. Left out, the first rows "
            "decide.",
            examples=[";"],
        ),
    ]
    decimal: Annotated[
        Literal[".", ","],
        Field(
            default_factory=nothing,
            title="Decimal",
            description="Of text: the decimal mark of numbers. Left out, the first rows decide.",
            examples=[","],
        ),
    ]
    comment: Annotated[
        Literal["#", "%", "!", "/", "*", "@", "&", "~"],
        Field(
            default_factory=nothing,
            title="Comment",
            description="Of text: the character that begins a comment, up to the end of its line. "
            "Left out, lines with # before the first row are comments.",
            examples=["%"],
        ),
    ]

    workers: Annotated[
        int,
        Field(
            title="Workers",
            description="Up to how many runs share the work, this job's own included.",
            ge=1,
            le=256,
            examples=[4],
        ),
    ] = 1
    partition: Annotated[
        int,
        Field(
            default_factory=nothing,
            title="Partition",
            description="Files in each part of the work; chosen by cost if left out.",
            ge=1,
            le=100_000,
            json_schema_extra=expect("a number of files, such as 100", type="integer"),
            examples=[100],
        ),
    ]
    keep_sums: Annotated[
        bool,
        Field(
            title="Keep sums",
            description="Publish the sums of the parts too, in the folder sums.",
            examples=[True],
        ),
    ] = False

    @model_validator(mode="after")
    def _has_one_source(self) -> "AverageFiles":
        if ("source" in self.model_fields_set) == ("generate" in self.model_fields_set):
            raise ValueError("name either a source, or files to generate")
        return self

    @model_validator(mode="after")
    def _has_distinct_separators(self) -> "AverageFiles":
        if self.decimal == "," == self.delimiter:
            raise ValueError("delimiter and decimal cannot both be a comma: name another delimiter")
        return self


class SumFiles(Payload):
    """The parameter of a helper run: some of the files of a job of average-files."""

    of: AverageFiles
    job: UUID
    directory: ResultsDirectory
    stage: Annotated[
        str,
        Field(description="Stage of the attempt that asks.", pattern=r"^[0-9a-f.-]+$"),
    ]
    listing: Annotated[str, Field(description="Listing of all files, made by that attempt.")]
    memory: Annotated[int, Field(description="Memory for sums, in bytes.", ge=1)]
    first: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
