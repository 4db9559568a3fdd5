"""Answers of the local S3: what boto3's transfers and listings need, from the objects in `.mlops/s3/`.

Objects with ranges, copies, multipart uploads, ListObjectsV2. Any other call, of S3 or of another service, is an error
that says so. Source: the Amazon S3 API reference.
"""

from __future__ import annotations

import json
import re
import secrets
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from sagegate.files import split_uri
from sagegate.local.storage import Store

if TYPE_CHECKING:
    from sagegate.local.s3_endpoint import S3Endpoint


class S3Error(Exception):
    """An answer of S3 that is an error: its status and code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def respond(
    endpoint: S3Endpoint, method: str, target: str, headers: Any, body: bytes
) -> tuple[int, dict[str, str], bytes | Path, tuple[int, int]]:
    """Return status, headers, and the content or the file, with the part of it to send. Raises S3Error."""
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    bucket, _, key = unquote(url.path).lstrip("/").partition("/")
    credential = re.search(r"Credential=([^/,]+)/\d+/[^/]*/([^/]+)/", headers.get("Authorization", ""))
    if not credential or credential[1] != endpoint.access_key:
        raise S3Error(403, "InvalidAccessKeyId", "this endpoint belongs to a local job of another process")
    if credential[2] != "s3":
        raise S3Error(501, "NotImplemented", f"a local job reaches S3 only, not {credential[2]}: run it on AWS")
    folder = endpoint.store.folder / bucket
    try:
        split_uri(f"s3://{bucket}/{key}")
    except ValueError as error:
        raise S3Error(400, "InvalidURI", str(error)) from None
    if not folder.is_dir() and method != "PUT":
        raise S3Error(404, "NoSuchBucket", f"{bucket} is not in the local S3: copy what the job reads to {folder}/")
    file = folder / key
    if method == "GET" and not key and query.get("list-type") == "2":
        return 200, {}, _listing(endpoint.store, bucket, query), (0, 0)
    if method in ("GET", "HEAD") and key and query.keys() <= {"x-id", "versionId"}:
        if not file.is_file():
            raise S3Error(404, "NoSuchKey", f"no object s3://{bucket}/{key} in the local S3 ({folder}/)")
        return _object(file, headers.get("Range", ""))
    if method == "PUT" and key and "partNumber" in query:
        endpoint.uploads.setdefault(query["uploadId"], {})[int(query["partNumber"])] = body
        return 200, {"ETag": '"part"'}, b"", (0, 0)
    if method == "PUT" and key and query.keys() <= {"x-id"}:
        return _put(endpoint.store, bucket, key, unquote(headers.get("x-amz-copy-source", "")), body)
    if method == "POST" and "uploads" in query:
        identifier = secrets.token_hex(8)
        endpoint.uploads[identifier] = {}
        return 200, {}, _xml("InitiateMultipartUploadResult", f"<UploadId>{identifier}</UploadId>"), (0, 0)
    if method == "POST" and query.get("uploadId") in endpoint.uploads:
        parts = endpoint.uploads.pop(query["uploadId"])
        endpoint.store.put_object(Bucket=bucket, Key=key, Body=b"".join(parts[number] for number in sorted(parts)))
        return 200, {}, _xml("CompleteMultipartUploadResult", '<ETag>"object"</ETag>'), (0, 0)
    if method == "DELETE" and key:
        endpoint.store.delete_object(Bucket=bucket, Key=key)
        return 204, {}, b"", (0, 0)
    raise S3Error(
        501, "NotImplemented", f"the local S3 does not know this call ({method} {target[:200]}): run it on AWS"
    )


def _put(store: Store, bucket: str, key: str, source: str, body: bytes) -> tuple[int, dict[str, str], bytes, Any]:
    if not source:
        store.put_object(Bucket=bucket, Key=key, Body=body)
        return 200, {"ETag": '"object"'}, b"", (0, 0)
    copied = store.folder / source.lstrip("/")
    if ".." in source.split("/") or not copied.is_file():
        raise S3Error(404, "NoSuchKey", f"no object {source} in the local S3")
    store.put_object(Bucket=bucket, Key=key, Body=copied.read_bytes())
    return 200, {}, _xml("CopyObjectResult", '<ETag>"object"</ETag>'), (0, 0)


def _object(file: Path, wanted: str) -> tuple[int, dict[str, str], Path, tuple[int, int]]:
    """Return an object, or the part `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH` of it."""
    size, modified = file.stat().st_size, file.stat().st_mtime
    headers = {"ETag": f'"{size}-{modified}"', "Last-Modified": formatdate(modified, usegmt=True)}
    part = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if not part or not any(part.groups()):
        return 200, headers, file, (0, size)
    first = int(part[1]) if part[1] else max(0, size - int(part[2]))
    last = min(int(part[2]) if part[1] and part[2] else size - 1, size - 1)
    if first >= size:
        raise S3Error(416, "InvalidRange", f"the object has {size} bytes")
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return 206, headers, file, (first, last - first + 1)


def _listing(store: Store, bucket: str, query: dict[str, str]) -> bytes:
    """Return ListObjectsV2's answer, all in one page."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    names = [name for name, _ in store.objects(f"s3://{bucket}/") if name.startswith(prefix)]
    folded = {
        prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
        for name in names
        if delimiter and delimiter in name[len(prefix) :]
    }
    parts = [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folded)]
    for name in names:
        if not any(name.startswith(folder) for folder in folded):
            size = (store.folder / bucket / name).stat().st_size
            parts.append(f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size></Contents>")
    counted = f"<KeyCount>{len(parts)}</KeyCount><IsTruncated>false</IsTruncated>"
    return _xml(
        "ListBucketResult", f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix>{counted}{''.join(parts)}"
    )


def _xml(name: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{content}</{name}>'.encode()


def handler_class(endpoint: S3Endpoint) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers the requests to an endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def answer(self) -> None:
            """Read the request, and send what S3 would answer."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, headers, content, part = respond(endpoint, self.command, self.path, self.headers, body)
            except S3Error as error:
                status, headers, part = error.status, {}, (0, 0)
                content = error_body(error, self.headers)
            length = part[1] if isinstance(content, Path) else len(content)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if isinstance(content, bytes):
                self.wfile.write(content)
                return
            with content.open("rb") as stream:
                stream.seek(part[0])
                self.wfile.write(stream.read(length))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    return Handler


def error_body(error: S3Error, headers: Any) -> bytes:
    """Return an error as the service that was asked writes it: as JSON, or as XML."""
    if "json" in headers.get("Content-Type", ""):
        return json.dumps({"__type": error.code, "message": str(error)}).encode()
    content = f"<Code>{error.code}</Code><Message>{escape(str(error))}</Message>"
    is_s3 = "/s3/" in headers.get("Authorization", "/s3/")
    return _xml("Error", content) if is_s3 else _xml("ErrorResponse", f"<Error>{content}</Error>")
