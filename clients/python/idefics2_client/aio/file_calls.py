"""The asyncio client's calls for files that requests name instead of bringing their bytes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from idefics2.v1.files_pb2 import DeleteFileRequest, GetFileRequest, ListFilesRequest

from idefics2_client.aio.connection import AsyncConnection
from idefics2_client.composition import Composition, OptionsT, Request
from idefics2_client.contents import Content, FileSource
from idefics2_client.download import Destination, Download, opening
from idefics2_client.errors import Idefics2Error, NotFound
from idefics2_client.file_names import FileName, name_file
from idefics2_client.requests import make_message
from idefics2_client.upload import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from idefics2.v1.files_pb2 import File

    from idefics2_client.images import ImageSource
    from idefics2_client.retry import Patience
    from idefics2_client.updates import TransferUpdate


class AsyncFileCalls(AsyncConnection):
    """Upload, download, ask for, list, delete."""

    async def upload(
        self,
        source: FileSource,
        *,
        name: str | None = None,
        ttl_seconds: float | None = None,
        on_progress: Callable[[TransferUpdate], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> File:
        """Upload a picture and return what the service knows of it; a request takes that as its image.

        Reads and sends a MiB at a time. Goes on after a lost connection, and where an earlier upload of the
        same bytes stopped, even one of another process; what the service has is not sent again.

        Args:
            source: a path, bytes, or an open file, which is uploaded from where it stands.
            name: what lists call it; None: the path's last part.
            ttl_seconds: how long it is kept at most, above 0; None: as long as the service keeps files.
            on_progress: told how far it is, in another thread; None: the client's `on_upload`.
            timeout_seconds: bounds all of it.

        Raises:
            ImageUnreadable: the file is missing or cannot be read.
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        with await asyncio.to_thread(Content, source, name, patience) as content:
            return await self._upload(Upload(content, on_progress or self._on_upload, ttl_seconds), patience)

    async def download(
        self,
        file: FileName,
        destination: Destination,
        *,
        on_progress: Callable[[TransferUpdate], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> File:
        """Write a file's bytes to a path or an open file, and return what it is.

        Goes on after a lost connection.

        Raises:
            NotFound: there is none of this name.
            OSError: the destination cannot be written.
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        with opening(destination) as out:
            download, is_complete = Download(file, out, on_progress), False
            while not is_complete:
                is_complete = await self._read_file(download, patience)
            return download.finish()

    async def get_file(self, file: FileName, *, timeout_seconds: float | None = None) -> File:
        """Return what the service knows of a file.

        Raises:
            NotFound: there is none of this name.
            Idefics2Error: see `idefics2_client.errors`.

        """
        question = name_file(GetFileRequest, file)
        return await self._ask(self._files.GetFile, question, self._patience(timeout_seconds))

    async def delete_file(self, file: FileName, *, timeout_seconds: float | None = None) -> File:
        """Let the service forget a file, and return what it was. Requests that were submitted keep its bytes.

        Raises:
            NotFound: there is none of this name.
            Idefics2Error: see `idefics2_client.errors`.

        """
        question = name_file(DeleteFileRequest, file)
        return await self._ask(self._files.DeleteFile, question, self._patience(timeout_seconds))

    async def list_files(
        self, *, page_size: int | None = None, timeout_seconds: float | None = None
    ) -> AsyncGenerator[File, None]:
        """Yield the key's files, ordered by their ids; a page is fetched when it is needed.

        Args:
            page_size: how many to fetch at once, 1 to 1,000; None: 50.
            timeout_seconds: bounds each page.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        question = make_message(ListFilesRequest, page_size=page_size)
        is_last = False
        while not is_last:
            page = await self._ask(self._files.ListFiles, question, self._patience(timeout_seconds))
            for file in page.files:
                yield file
            question.page_token = page.next_page_token
            is_last = not page.next_page_token

    async def _compose(
        self,
        make: Callable[[ImageSource, str, OptionsT], Request],
        image: ImageSource,
        prompt: str,
        options: OptionsT,
        patience: Patience,
    ) -> Request:
        """Write a request; upload before what is too large to be part of it."""
        composition = await asyncio.to_thread(Composition, make, image, prompt, options)
        if composition.request is not None:
            return composition.request
        for index in composition.large:
            with await asyncio.to_thread(composition.open, index) as content:
                await self._upload(Upload(content, self._on_upload), patience)
        return await asyncio.to_thread(composition.write)

    async def _upload(self, upload: Upload, patience: Patience) -> File:
        while True:
            try:
                if not upload.is_small:
                    await self._look(upload, patience)
                call = self._uploads.Upload.future(upload.messages(), **self._terms(patience))
                file = upload.finish(await self._settle(call))
            except Idefics2Error as error:
                pause = upload.pause_after(error, patience)
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                patience.restore()
                return file

    async def _look(self, upload: Upload, patience: Patience) -> None:
        """See what the service has."""
        file = progress = None
        with suppress(NotFound):
            file = await self._settle(
                self._uploads.GetFile.future(upload.file_question, **self._terms(patience))
            )
        if not upload.note_file(file):
            with suppress(NotFound):
                progress = await self._settle(
                    self._uploads.GetUpload.future(upload.progress_question, **self._terms(patience))
                )
            upload.note_progress(progress, patience)

    async def _read_file(self, download: Download, patience: Patience) -> bool:
        """Read what is new on one connection; return whether it is all."""
        try:
            messages = self._follow(self._files.DownloadFile, download.question, patience)
            async with aclosing(messages):
                async for message in messages:
                    await asyncio.to_thread(download.take, message)
                    patience.restore()
        except Idefics2Error as error:
            pause = download.pause_after(error, patience)
            if pause is None:
                raise
            await asyncio.sleep(pause)
            return False
        return True
