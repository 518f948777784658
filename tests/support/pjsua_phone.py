"""pjsua2 as a phone, a program of its own: takes one JSON command a line on stdin, tells what happens as one JSON object a line on stdout.

`python -m tests.support.pjsua_phone JSON` with the fields of `Settings`. `tests.support.softphone` runs it.
"""

from __future__ import annotations

import json
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pjsua2 as pj

RATE = 8000
_PRACK = {"none": pj.PJSUA_100REL_NOT_USED, "optional": pj.PJSUA_100REL_OPTIONAL, "mandatory": pj.PJSUA_100REL_MANDATORY}
_TIMER = {"none": pj.PJSUA_SIP_TIMER_INACTIVE, "optional": pj.PJSUA_SIP_TIMER_OPTIONAL, "always": pj.PJSUA_SIP_TIMER_ALWAYS}
_SRTP = {"none": pj.PJMEDIA_SRTP_DISABLED, "mandatory": pj.PJMEDIA_SRTP_MANDATORY}
_KINDS = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}


@dataclass(frozen=True)
class Settings:
    """How this phone is."""

    host: str
    port: int
    user: str
    folder: str
    transport: str = "udp"
    tone: int = 400
    prack: str = "optional"
    timer: str = "optional"
    srtp: str = "none"
    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


# The library logs to stdout until it is told where to; that goes to stderr.
EVENTS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def tell(event: str, **fields: Any) -> None:
    """One line."""
    EVENTS.write(json.dumps({"event": event, **fields}) + "\n")


class Phone:
    """The endpoint, its account and its calls, the newest last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.calls: list[Call] = []
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
        config.uaConfig.userAgent = "pjsua2"
        config.medConfig.clockRate = config.medConfig.sndClockRate = RATE
        config.medConfig.noVad = True
        config.logConfig.level, config.logConfig.consoleLevel = 5, 0
        config.logConfig.msgLogging = True
        config.logConfig.filename = str(Path(settings.folder) / "pjsua.log")
        self.endpoint.libInit(config)
        self._listen()
        self.endpoint.libStart()
        self.endpoint.audDevManager().setNullDev()
        for codec in self.endpoint.codecEnum2():
            self.endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU") else 0)
        self.tone = pj.ToneGenerator()
        self.tone.createToneGenerator(RATE, 1)
        sound = pj.ToneDesc()
        sound.freq1, sound.freq2, sound.on_msec, sound.off_msec = settings.tone, 0, 1000, 0
        sounds = pj.ToneDescVector()
        sounds.append(sound)
        self.tone.play(sounds, True)
        self.recorder = pj.AudioMediaRecorder()
        self.recorder.createRecorder(str(Path(settings.folder) / "heard.wav"))
        self.account = Account(self)
        self.account.create(self._account(), True)

    def _listen(self) -> None:
        settings, config = self.settings, pj.TransportConfig()
        config.port, config.boundAddress, config.publicAddress = settings.port, settings.host, settings.host
        if settings.transport == "tls":
            config.tlsConfig.CaListFile = settings.ca
            config.tlsConfig.certFile, config.tlsConfig.privKeyFile = settings.certificate, settings.key
            config.tlsConfig.verifyServer = config.tlsConfig.verifyClient = True
            config.tlsConfig.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2
        self.endpoint.transportCreate(_KINDS[settings.transport], config)

    def _account(self) -> Any:
        settings, config = self.settings, pj.AccountConfig()
        config.idUri = f"sip:{settings.user}@{settings.host}:{settings.port};transport={settings.transport}"
        config.callConfig.prackUse = _PRACK[settings.prack]
        config.callConfig.timerUse = _TIMER[settings.timer]
        config.callConfig.timerMinSESec, config.callConfig.timerSessExpiresSec = 90, 90
        config.mediaConfig.srtpUse, config.mediaConfig.srtpSecureSignaling = _SRTP[settings.srtp], 0
        config.mediaConfig.transportConfig.boundAddress = settings.host
        if settings.password:
            config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", settings.user, 0, settings.password))
        return config

    def run(self) -> None:
        """Obey until stdin ends."""
        tell("ready")
        pending = b""
        while True:
            self.endpoint.libHandleEvents(10)
            if not select.select([sys.stdin.buffer], [], [], 0)[0]:
                continue
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for text in lines:
                self._obey(**json.loads(text))
        self.endpoint.hangupAllCalls()
        self.endpoint.libDestroy()
        EVENTS.flush()
        os._exit(0)  # the destructors of what is left ask a library that is gone

    def _obey(self, command: str, to: str = "", headers: dict[str, str] | None = None, flags: int = 0) -> None:
        params = pj.CallOpParam(True)
        params.opt.audioCount, params.opt.videoCount = 1, 0
        try:
            match command:
                case "dial" | "dial-without-offer":
                    for name, value in (headers or {}).items():
                        header = pj.SipHeader()
                        header.hName, header.hValue = name, value
                        params.txOption.headers.append(header)
                    if command == "dial-without-offer":
                        params.opt.flag = pj.PJSUA_CALL_NO_SDP_OFFER
                    call = Call(self)
                    self.calls.append(call)
                    call.makeCall(to, params)
                case "hold":
                    self.calls[-1].setHold(params)
                case "resume":
                    params.opt.flag = pj.PJSUA_CALL_UNHOLD
                    self.calls[-1].reinvite(params)
                case "update":
                    self.calls[-1].update(params)
                case "reinvite-without-offer":
                    params.opt.flag = pj.PJSUA_CALL_NO_SDP_OFFER
                    self.calls[-1].reinvite(params)
                case "key":
                    self.calls[-1].dialDtmf(to)
                case "transfer":
                    self.calls[-1].xfer(to, pj.CallOpParam(True))
                case "transfer-to-the-other-call":
                    self.calls[-2].xferReplaces(self.calls[-1], pj.CallOpParam(True))
                case "hang-up":
                    self.calls[-1].hangup(pj.CallOpParam())
        except pj.Error as error:
            tell("refused", command=command, detail=error.info())


class Account(pj.Account):  # type: ignore[misc]  # the binding has no types
    """Answers by itself: 180, then 200."""

    def __init__(self, phone: Phone) -> None:
        super().__init__()
        self.phone = phone

    def onIncomingCall(self, prm: Any) -> None:
        call = Call(self.phone, prm.callId)
        self.phone.calls.append(call)
        tell("invited", text=prm.rdata.wholeMsg)
        for status in (180, 200):
            params = pj.CallOpParam(True)
            params.statusCode = status
            params.opt.audioCount, params.opt.videoCount = 1, 0
            call.answer(params)


class Call(pj.Call):  # type: ignore[misc]  # the binding has no types
    """Plays its tone, records what it hears, tells what happens."""

    def __init__(self, phone: Phone, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(phone.account, call_id)
        self.phone = phone

    def onCallState(self, prm: Any) -> None:
        info = self.getInfo()
        tell(info.stateText.lower(), status=info.lastStatusCode, reason=info.lastReason)

    def onCallMediaState(self, prm: Any) -> None:
        info = self.getInfo()
        for index, medium in enumerate(info.media):
            tell("media", status=int(medium.status), direction=int(medium.dir))
            if medium.type == pj.PJMEDIA_TYPE_AUDIO and medium.status in (
                pj.PJSUA_CALL_MEDIA_ACTIVE,
                pj.PJSUA_CALL_MEDIA_REMOTE_HOLD,
            ):
                audio = self.getAudioMedia(index)
                self.phone.tone.startTransmit(audio)
                audio.startTransmit(self.phone.recorder)

    def onDtmfDigit(self, prm: Any) -> None:
        tell("key", digit=prm.digit)

    def onCallTransferRequest(self, prm: Any) -> None:
        tell("asked to call", to=prm.dstUri)
        call = Call(self.phone)
        self.phone.calls.append(call)
        prm.newCall = call

    def onCallTransferStatus(self, prm: Any) -> None:
        tell("transfer", status=int(prm.statusCode), final=bool(prm.finalNotify))


if __name__ == "__main__":
    Phone(Settings(**json.loads(sys.argv[1]))).run()
