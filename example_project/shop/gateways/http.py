"""JSON over HTTP, which most outside services speak."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from example_project.shop.gateways.exceptions import GatewayError


@dataclass(frozen=True)
class JSONClient:
    """Posts to one service and turns its failures into one type of error."""

    base_url: str
    key: str
    error: type[GatewayError]
    timeout: float = 10.0

    def post(self, path: str, body: Mapping[str, Any], *, once: str = "") -> dict[str, Any]:
        """Post a body and return the answer.

        Args:
            path: below the service's own.
            body: as JSON.
            once: a key; what is posted twice with the same key is done once.

        Raises:
            GatewayError: as ``error`` says; no answer, an HTTP error, or no JSON.
        """
        try:
            with urlopen(self._request(path, body, once), timeout=self.timeout) as response:
                answer: dict[str, Any] = json.load(response)
        except HTTPError as refusal:
            with refusal:
                reason = refusal.read().decode(errors="replace")
            raise self.error(f"{path}: {refusal.code} {reason}", status=refusal.code) from refusal
        except (OSError, HTTPException, ValueError) as failure:
            raise self.error(f"{path}: {failure}") from failure
        return answer

    def _request(self, path: str, body: Mapping[str, Any], once: str) -> Request:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = once
        return Request(f"{self.base_url}/{path}", json.dumps(body).encode(), headers)
