"""An agent on baresip-python, PCM in and out by the program itself, as voice agents use it. The commands and events of `softphone`.

`python -m tests.support.baresip_agent JSON` with the fields of `Settings`. `tests.support.softphone` runs it.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baresip import Account, AudioNotActive, AudioRestarted, BaresipError, Call, Config, Runtime, UserAgent

RATE = 8000
FRAME = RATE // 50
STEP_S = 0.02
WORDS = {"CALL_ESTABLISHED": "confirmed", "CALL_CLOSED": "disconnected", "CALL_REMOTE_SDP": "described", "CALL_LOCAL_SDP": "describing"}
"""Its events by the names that every softphone of the tests has for them; the others keep theirs."""


@dataclass(frozen=True)
class Settings:
    """How this agent is."""

    host: str
    port: int
    user: str
    folder: str
    transport: str = "udp"
    tone: int = 400


def tell(event: str, **fields: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Agent:
    """One user agent and its call of the moment."""

    def __init__(self, settings: Settings, runtime: Runtime, agent: UserAgent, heard: wave.Wave_write) -> None:
        self.settings = settings
        self.runtime = runtime
        self.agent = agent
        self.call: Call | None = None
        self._heard = heard
        self._sample = 0

    def take(self, call: Call) -> None:
        """From now on, this is the call."""
        self.call = call
        call.on(lambda event: tell(WORDS.get(event.event.name, event.event.name.lower())))
        call.on_dtmf(lambda key: tell("key", digit=key.digit) if key.digit else None)

    async def talk(self) -> None:
        """Say the tone and hear the other, frame by frame."""
        while True:
            await asyncio.sleep(STEP_S)
            if self.call is None:
                continue
            try:
                if self.call.audio.info().tx_buffered < 6 * FRAME:
                    self.call.audio.write(self._tone())
                if pcm := self.call.audio.read(4 * FRAME):
                    self._heard.writeframesraw(pcm)
            except (AudioNotActive, AudioRestarted):
                continue

    def _tone(self) -> bytes:
        samples = range(self._sample, self._sample + 2 * FRAME)
        self._sample += 2 * FRAME
        return b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * self.settings.tone * n / RATE))) for n in samples)

    async def obey(self, command: str, to: str = "", headers: dict[str, str] | None = None) -> None:
        """Do what one line of stdin says."""
        try:
            if command == "dial":
                call = await self.agent.dial(to, headers)
                self.take(call)
            elif self.call is not None:
                match command:
                    case "hold":
                        await self.call.hold()
                    case "resume":
                        await self.call.resume()
                    case "key":
                        await self.call.send_dtmf(to)
                    case "transfer":
                        await self.call.transfer(to)
                    case "hang-up":
                        await self.call.hangup()
        except BaresipError as error:
            tell("refused", command=command, detail=str(error))


async def main(settings: Settings) -> None:
    """Serve until stdin ends."""
    with wave.open(str(Path(settings.folder) / "heard.wav"), "wb") as heard:
        heard.setparams((1, 2, RATE, 0, "NONE", ""))
        heard.writeframesraw(b"")
        runtime = Runtime()
        ports = f"sip_listen {settings.host}:{settings.port}\nrtp_ports 10000-20000\n"
        await runtime.start(Config(net_interface=settings.host, extra_config_text=ports))
        domain = f"{settings.host}:{settings.port}"
        account = Account(settings.user, domain, "", reg_interval=0, transport=settings.transport)  # type: ignore[arg-type]
        await serve(Agent(settings, runtime, await UserAgent.create(runtime, account), heard))
        await runtime.close()


async def serve(agent: Agent) -> None:
    """Answer and obey until stdin ends."""
    answering: set[asyncio.Task[None]] = set()

    def incoming(call: Call) -> None:
        agent.take(call)
        tell("invited")
        answering.add(asyncio.ensure_future(call.answer()))

    agent.agent.on_incoming(incoming)
    talking = asyncio.create_task(agent.talk())
    tell("ready")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while text := await reader.readline():
        await agent.obey(**json.loads(text))
    talking.cancel()


if __name__ == "__main__":
    asyncio.run(main(Settings(**json.loads(sys.argv[1]))))
