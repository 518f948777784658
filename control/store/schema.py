"""The tables. Times are microseconds since the epoch (BIGINT), documents are JSON text, so that both engines hold the same bytes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only for a column of type INTEGER.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

calls = sa.Table(
    "calls",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("sip_call_id", sa.String(512), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("route", sa.String(128), nullable=False),
    sa.Column("sidecar", sa.String(128), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("started_us", sa.BigInteger, nullable=False),
    sa.Column("ended_us", sa.BigInteger),
    sa.Column("complete", sa.Boolean, nullable=False, default=False),
    sa.Column(
        "settled", sa.Boolean, nullable=False, default=False, info={"kept": True}
    ),  # the time for a report is over and was acted upon
    sa.Column("told", sa.String(16)),  # the outcome that webhooks were last told of, where there are any
    sa.Column("last_seq", sa.Integer, nullable=False),  # the highest stored
    sa.Column("held", sa.Integer, nullable=False),  # how many are stored: fewer than last_seq while there are gaps
    sa.Column("updated_us", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.Float),  # the slowest ordinary response, null while there is none
    sa.Column("doc", sa.Text, nullable=False),
    sa.Column("messages_gone", sa.Boolean, nullable=False, server_default=sa.false()),  # its SIP messages are past their own retention
    sa.Index("ix_calls_kind_started_us_id", "kind", "started_us", "id"),
    sa.Index("ix_calls_outcome_started_us_id", "outcome", "started_us", "id"),
    sa.Index("ix_calls_route_started_us_id", "route", "started_us", "id"),
    sa.Index("ix_calls_sidecar_started_us_id", "sidecar", "started_us", "id"),
    sa.Index("ix_calls_status_started_us_id", "status", "started_us", "id"),
    sa.Index("ix_calls_settled_ended_us", "settled", "ended_us"),
    sa.Index("ix_calls_ended_us_started_us", "ended_us", "started_us"),  # live calls, and those past their retention
    # No filter, a range of latencies, several filters at once: decided in the index, newest first, without a visit to the rows.
    sa.Index("ix_calls_all_filters", "started_us", "id", "kind", "outcome", "route", "sidecar", "status", "latency_ms"),
    sa.Index("ix_calls_latency_ms_started_us_id", "latency_ms", "started_us", "id"),
    sa.Index(
        "ix_calls_messages_kept",
        "ended_us",
        sqlite_where=sa.text("NOT messages_gone"),
        postgresql_where=sa.text("NOT messages_gone"),
    ),
    sa.Index("ix_calls_updated_us_id", "updated_us", "id"),  # watchers that come back ask what changed since
)

identifiers = sa.Table(  # every value under which a report may know a call
    "identifiers",
    metadata,
    sa.Column("call", sa.String(64), sa.ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # call_id, b_leg, correlation, platform, recipient, caller, callee
    sa.Column("value", sa.String(512), primary_key=True),
    sa.Index("ix_identifiers_value_kind", "value", "kind"),
)

figures = sa.Table(  # what a summary reads of each call, and what it filters by: a hundredth of the call's own row
    "figures",
    metadata,
    sa.Column("call", sa.String(64), sa.ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sip_call_id", sa.String(512), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("route", sa.String(128), nullable=False),
    sa.Column("sidecar", sa.String(128), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("started_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("latency_ms", sa.Float),
    sa.Column("reason", sa.String(64)),
    sa.Column("responses", sa.LargeBinary),  # latencies of ordinary turns, ms: doubles in the machine's own form, null for none
    sa.Column("greeting", sa.LargeBinary),
    sa.Column("differences", sa.LargeBinary),  # wire minus reported
)

strays = sa.Table(  # calls of which facts came but not the one that makes the call
    "strays",
    metadata,
    sa.Column("call", sa.String(64), primary_key=True),
    sa.Column("since_us", sa.BigInteger, nullable=False, index=True),
)

facts = sa.Table(  # may arrive before the call_started that makes the call, hence no foreign key
    "facts",
    metadata,
    sa.Column("call", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("provider_call_id", sa.String(200), nullable=False),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("agent", sa.String(256), nullable=False),
    sa.Column("origin", sa.String(8), nullable=False),  # agent, or wire for our own
    sa.Column("received_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("credential", sa.LargeBinary),  # Fernet token of the sender's key, when control has none of its own
    sa.Column("sip_call_id", sa.String(512), index=True),
    sa.Column("correlation_sha256", sa.String(64), index=True),
    sa.Column("call", sa.String(64), index=True),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("rule", sa.String(32)),
    sa.Column("confidence", sa.Float, nullable=False, default=0.0),
    sa.Column("exact", sa.Boolean, nullable=False, default=False),
    sa.Column("candidates", sa.Text, nullable=False, default="[]"),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),  # its delivery's body is fixed: nothing more can be mended in it
    sa.UniqueConstraint("provider_call_id", "workspace", "agent"),
    sa.Index("ix_reports_received_us", "received_us"),
)

claims = sa.Table(  # every value of a report that a rule may find its call by, so that a call finds the reports that wait for it
    "claims",
    metadata,
    sa.Column("value", sa.String(512), primary_key=True),
    sa.Column("report", _Id, sa.ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True, index=True),
)

conflicts = sa.Table(  # the calls between which a report cannot decide
    "conflicts",
    metadata,
    sa.Column("call", sa.String(64), primary_key=True),
    sa.Column("report", _Id, sa.ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True, index=True),
)

_PENDING: Any = {name: sa.text("state = 'pending'") for name in ("sqlite_where", "postgresql_where")}

spans = sa.Table(  # of agents' own traces, which know their call by the id that its report has; the workspace keeps tenants apart
    "spans",
    metadata,
    sa.Column("trace_id", sa.String(32), primary_key=True),
    sa.Column("span_id", sa.String(16), primary_key=True),
    sa.Column("workspace", sa.String(64), primary_key=True),
    sa.Column("provider_call_id", sa.String(200), nullable=False),
    sa.Column("started_us", sa.BigInteger, nullable=False),
    sa.Column("received_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Index("ix_spans_provider_call_id_started_us", "provider_call_id", "started_us"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("destination", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),  # create_call, traces, or the event that a webhook is told
    sa.Column("report", _Id, sa.ForeignKey("reports.id", ondelete="CASCADE"), index=True),
    sa.Column("call", sa.String(64)),
    sa.Column("label", sa.String(256), nullable=False),  # what a person knows it by: the provider's call_id
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("agent", sa.String(256), nullable=False),
    sa.Column("credential", sa.LargeBinary),
    sa.Column("content_type", sa.String(128), nullable=False),
    sa.Column("body", sa.LargeBinary),  # null until the first attempt, then never changed
    sa.Column("state", sa.String(16), nullable=False),  # pending, delivered, dead, superseded
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at_us", sa.BigInteger, nullable=False),  # for a leased row: when the lease ends
    sa.Column("lease", sa.String(64)),
    sa.Column("last_error", sa.Text),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("finished_us", sa.BigInteger),
    sa.UniqueConstraint("destination", "report"),
    sa.Index("ix_deliveries_due", "destination", "next_at_us", **_PENDING),
    sa.Index("ix_deliveries_ahead", "call", "destination", "id", **_PENDING),  # what has to leave before: see control.delivery.outbox
    sa.Index("ix_deliveries_state_id", "state", "id"),
    sa.Index("ix_deliveries_call_id", "call", "id"),
    sa.Index("ix_deliveries_label_id", "label", "id"),
    sa.Index("ix_deliveries_finished_us", "finished_us"),
)

sidecars = sa.Table(
    "sidecars",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("first_seen_us", sa.BigInteger, nullable=False),
    sa.Column("last_seen_us", sa.BigInteger, nullable=False),
    sa.Column("facts", sa.BigInteger, nullable=False, default=0),
)

probe = sa.Table(  # written by the readiness check, so that a full or read-only disk shows
    "probe",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("pad", sa.LargeBinary),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),  # SHA-256 of the token, which itself is never stored
    sa.Column("scopes", sa.String(128), nullable=False),  # separated by spaces
    sa.Column("sidecars", sa.Text, nullable=False, server_default="[]"),  # patterns of names that it speaks for; none: any
    sa.Column("workspace", sa.String(64)),  # with `agent` and `credential`: the evaluator's credentials behind this token
    sa.Column("agent", sa.String(256)),
    sa.Column("credential", sa.LargeBinary),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("expires_us", sa.BigInteger),
    sa.Column("revoked_us", sa.BigInteger),
    sa.Index(
        "uq_tokens_name_in_force",
        "name",
        unique=True,
        sqlite_where=sa.text("revoked_us IS NULL"),
        postgresql_where=sa.text("revoked_us IS NULL"),
    ),
)

audit = sa.Table(  # who changed what: written in the transaction of the change, never changed, kept for good unless retention says less
    "audit",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.String(256), nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
    sa.Column("source", sa.String(128)),
    sa.Column("request_id", sa.String(128)),
    sa.Index("ix_audit_at_us_id", "at_us", "id"),
    sa.Index("ix_audit_action_at_us_id", "action", "at_us", "id"),
    sa.Index("ix_audit_actor_at_us_id", "actor", "at_us", "id"),
)

snapshots = sa.Table(  # the fleet's configuration, a row a version; passwords only with the newest
    "snapshots",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Column("secrets", sa.LargeBinary),  # Fernet token of the passwords by route
)

fleet = sa.Table(  # sidecars that ever connected
    "fleet",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("instance", sa.String(64), nullable=False),
    sa.Column("software", sa.String(64), nullable=False),
    sa.Column("facts_version", sa.Integer, nullable=False),
    sa.Column("replica", sa.String(64)),  # the control that it is connected to, null for none
    sa.Column("first_seen_us", sa.BigInteger, nullable=False),
    sa.Column("connected_us", sa.BigInteger, nullable=False),
    sa.Column("heard_us", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)

commands = sa.Table(  # for sidecars that are connected to another replica, until they are done
    "commands",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("sidecar", sa.String(128), nullable=False),
    sa.Column("asked_by", sa.String(64), nullable=False),  # replicas
    sa.Column("meant_for", sa.String(64), nullable=False),
    sa.Column("deadline_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # the order, which may hold a password
)

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("command", sa.String(32), sa.ForeignKey("commands.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("doc", sa.Text, nullable=False),
)
