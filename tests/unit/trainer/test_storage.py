# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import storage


def test_a_document_that_is_not_there_reads_as_none(bucket: str) -> None:
    """Asking for yesterday's champion on the first night is no error."""
    assert storage.read_json(f"{bucket}/nothing.json") is None


def test_only_the_folder_asked_for_is_listed(bucket: str) -> None:
    """A neighbour whose name begins alike is not taken for a file of the folder."""
    for name in ("night/2.json", "night/1.json", "night-shift/3.json"):
        storage.write_json(storage.join(bucket, name), {})
    assert storage.list_files(f"{bucket}/night") == [f"{bucket}/night/1.json", f"{bucket}/night/2.json"]


@pytest.mark.parametrize("uri", ["s3://bucket/file", "/tmp/file", "gs://"])
def test_another_kind_of_address_is_refused(uri: str) -> None:
    """An address that is not Cloud Storage's is named in the error."""
    with pytest.raises(ValueError, match="no Cloud Storage address"):
        storage.read_json(uri)
