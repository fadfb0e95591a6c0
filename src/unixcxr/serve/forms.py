"""Uploads: one file and a few fields as multipart/form-data, kept in memory; the file's name is never looked at."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, Json, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from unixcxr.serve import schema
from unixcxr.serve.failure import RequestError

MAX_FIELDS = 20
MAX_FIELD_BYTES = 64 << 10
NEVER = 1 << 40


class ReportForm(schema.ReadSettings):
    """The fields of `/v1/report` beside the file."""

    stream: Annotated[bool, Field(description="Answer with server-sent events instead of one JSON.")] = False


class CheckForm(schema.Strict):
    """The fields of `/v1/check` beside the file."""

    include_image: Annotated[
        bool, Field(description="Send the picture back as a PNG that browsers show.")
    ] = False


class ExplainForm(schema.Strict):
    """The fields of `/v1/explain` beside the file; `token_ids` and `prompt` as `/v1/report` gave them."""

    sentence: schema.Text
    token_ids: Annotated[
        Json[list[int]], Field(max_length=4096, description="A JSON list of numbers.", examples=["[17, 4]"])
    ]
    prompt: schema.Text | None = None
    format: Literal["overlay", "floats"] = "overlay"


Form = TypeVar("Form", bound=BaseModel)


async def read_form(request: Request, kind: type[Form]) -> tuple[bytes, Form]:
    """Return the file and the fields of an upload. Raises RequestError that names the field."""
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    parser.spool_max_size = NEVER  # the body is in memory already, and no upload touches the disk
    try:
        form = await parser.parse()
    except (
        MultiPartException,
        ValueError,
        KeyError,
    ) as error:  # a boundary or charset that makes no sense too
        message = getattr(error, "message", "the parts cannot be told apart")
        raise RequestError("invalid_request", f"damaged multipart body: {message}") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RequestError(
                "invalid_request", "no file; send the picture as the part `file`", param="file"
            )
        content = await file.read()
        fields = [(name, value) for name, value in form.multi_items() if name != "file" and value != ""]
    finally:
        await form.close()
    given = dict(fields)
    if len(given) < len(fields):
        raise RequestError("invalid_request", "a field is given twice; send it once")
    try:
        return content, kind.model_validate(given)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def invalid(errors: Any) -> RequestError:
    """Return the most specific of pydantic's complaints: where and why, without what was sent."""
    first = max(errors, key=lambda error: len(error["loc"]))
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    named = f"{where}: " if where else ""
    return RequestError("invalid_request", f"{named}{first['msg']}{more}", param=where or None)


def form_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of an upload."""
    fields = kind.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "A DICOM, PNG or JPEG file."}
    fields["properties"] = {"file": file, **fields["properties"]}
    fields["required"] = ["file", *fields.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": fields}}}}
