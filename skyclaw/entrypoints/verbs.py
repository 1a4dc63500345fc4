"""The verbs of the command line: what each takes, says in the help, and which function does it.

Plain data, so that the help and a wrong word cost no import; the functions are loaded when their verb is typed.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Option:
    """One option, typed as --name; a value as --name=VALUE or --name VALUE, a list by repeating it."""

    name: str
    meaning: str
    kind: Literal["flag", "value", "list"] = "value"
    hint: str = "VALUE"
    short: str = ""  # one letter, typed as -n, its value as the next word
    may_be_empty: bool = False  # --name= unsets it

    @property
    def typed(self) -> str:
        """How it is typed."""
        return f"--{self.name}" if self.kind == "flag" else f"--{self.name}={self.hint}"

    @property
    def names(self) -> tuple[str, ...]:
        """Each way to name it."""
        return (f"--{self.name}", f"-{self.short}") if self.short else (f"--{self.name}",)


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb; `does` is `module:function` within skyclaw.entrypoints. A verb that carries a command leaves its words alone.

    One that prints lines for a person while it runs has them turned into JSON lines by --json.
    """

    name: str
    group: str
    words: str
    summary: str
    does: str
    options: tuple[Option, ...]
    least: int = 0
    most: int | None = 0
    carries_command: bool = False
    prints_lines: bool = False
    runs: str = "job"  # what the command that it carries becomes
    notes: str = ""  # what else to know, in the verb's own help

    def load(self) -> Callable[..., int]:
        """The function behind the verb: it takes the session, the words and the options, and answers with the exit code."""
        module, function = self.does.split(":")
        found: Callable[..., Any] = getattr(importlib.import_module(f"skyclaw.entrypoints.{module}"), function)
        return found


JSON = Option("json", "print the answer as JSON", "flag")
RAW = Option("raw", "print control characters of the job's output as they are, also on a terminal", "flag")
_COMMON = (
    Option("cap", "require this capability too; repeat it, or give a comma list", "list", "NAME"),
    Option("priority", "higher goes first, -1000 to 1000; 0 when not given", hint="N"),
    Option("label", "label the job; repeat it for more", "list", "KEY=VALUE"),
    Option("timeout", "time limit: 30 (seconds), 1500ms, 30s, 5m, 1h, at most 24h", hint="TIME"),
    Option("max-attempts", "how often it may fail before it has failed, 1 to 100; 1 when not given", hint="N"),
    Option("not-before", "earliest start: a time like 2030-01-31T12:00:00Z, or +30s", hint="TIME"),
    Option("env", "environment variable of the job; repeat it for more", "list", "NAME=VALUE"),
    Option("key", "idempotency key: the same key and command give the same job; drawn at random when not given", hint="KEY"),
    JSON,
)
_CWD = Option("cwd", "folder to run in", hint="FOLDER")
_SHELL = (*_COMMON[:6], _CWD, *_COMMON[6:])

_WAIT = Option("wait", "until the new revision serves, or has failed: then the exit code is 1", "flag")
_DEPLOY = (
    Option("replicas", "instances, 1 to 64; for a new service 1 when not given, else as many as it has", hint="N"),
    Option("cap", "require this capability of a host too; repeat it, or give a comma list", "list", "NAME"),
    Option("env", "environment variable of the service; repeat it for more", "list", "NAME=VALUE"),
    Option("bundle", "a folder to pack and send along: the service runs in it, on whichever host", hint="FOLDER", may_be_empty=True),
    replace(_CWD, may_be_empty=True),
    Option("health-path", "healthy is who answers 2xx there; without it, whose port accepts connections", hint="/PATH", may_be_empty=True),
    Option("health-timeout", "from start to health, 1s to 10m; 30s when not given; twice that with --wait: it is tried twice", hint="TIME"),
    Option("drain", "between the last new request to an instance and its end, 0 to 10m; 10s when not given", hint="TIME"),
    _WAIT,
    JSON,
)

RUN, SERVICES, HOSTS, PROCESSES, HELP = "Run work", "Services", "Hosts", "Processes", "Help with the set-up"
NETWORK, KEEPING = "The network of coordinators", "Keep and move data"

_PEERS = """\
The first table is about the coordinators. STATE: "asked" is the one that answers this command; "ready" ones take part; "catching up" ones
can be reached, and their copies are not level yet; "silent" ones were not heard of lately (SEEN says how long ago), or have to prove
themselves again. A WITNESS only votes.
The second is about the logs; each coordinator founds one. OWNER decides for the log; it is "nobody" until another one took over.
EPOCH rises with each owner: forced takeovers, then changes of owner. END is the last event of the copy here, COMMITTED the last one that
enough copies hold. LAG names who lacks how many events. Of the VOTERS, COPIES must hold each write; one with the mark (not seen) cannot be
reached from the coordinator that answers. Those with a common label are named by the beginnings of their ids, which all commands take."""
_JOIN = """\
Each of the two has to prove that it knows the token, then they are peers and learn of each other's peers. The command waits some seconds
for it; when it was refused, or not reached in that time, it says why and exits with 1. The coordinator goes on trying for an hour."""
_TAKEOVER = """\
A log needs this only when so many of its voters are gone for good that the others cannot take it over by themselves. Run it against the
coordinator with the best copy: the command shows them all first. What nobody there has is lost. The event in the log says who forced it
and why.
--log=all is for the case that several coordinators are gone: it takes every log whose owner cannot be seen, one after the other."""
_RESTORE = """\
A replica that came back with an older database would break what it promised to the others since. So the restored one is a new node.
Without --alone, its logs are copies: their owners go on with them, it catches up with those, and founds a log of its own. This is the way
when other coordinators live. (An empty database would do as well; it has more to catch up with.)
With --alone, it owns all logs in the backup as their only voter, in a higher generation: any other coordinator that turns up with them
later has to follow, and loses what it has beyond. This is the way when no other coordinator has these logs any more; --i-know says that
you are sure of that."""
_IMPORT = """\
Stop the hosts of the other coordinator first: jobs that are running there are queued here, and run again. Queued jobs wait here, finished
ones become history with their results. A job keeps its id from the first dash on; its former one is the label imported-id. The command may
be repeated, at the same coordinator: what is known is left as it is. A service is deployed unless one here has its name."""

_DEPLOY_NOTES = """\
The command has to listen on the port in $PORT. A host runs it only when its SKYCLAW_ALLOWED_COMMANDS lists it.
A name that is known already gets a new revision: its instances are replaced one after the other, each former one ends only when a new one
is healthy, and when the new ones do not become healthy the former ones stay. A revision that never does has two tries, each as long as
--health-timeout. What is not given stays as it was, except for the environment; --bundle=, --cwd= and --health-path= without a value unset
it. A folder that has changed is sent only with --bundle.
What the .gitignore files in the folder leave out is not sent, and it is said what that is. A .skyclawignore file in it, which is written in
the same way, takes the place of all of them."""
_GATEWAY = """\
It learns from the coordinators where the services run, keeps asking, and probes them too. SKYCLAW_GATEWAY_WORKERS says how many processes
share the port. GET /health tells what it knows, GET /v1/routes/traefik.json the same for Traefik's HTTP provider. The first signal lets
requests that run finish, a second one does not."""

_TABLE = (
    Verb("run", RUN, "<command> [args...]", "run a command; at its end prints its output and exits with its code",
         "waiting:run", (*_SHELL, RAW), 1, None, True),
    Verb("enqueue-shell", RUN, "<command> [args...]", "enqueue a command; prints the job's id",
         "enqueueing:enqueue_shell", _SHELL, 1, None, True),
    Verb("enqueue-openclaw", RUN, "[args...]", "enqueue a run of OpenClaw with these arguments; prints the job's id",
         "enqueueing:enqueue_openclaw", _COMMON, 0, None, True),
    Verb("enqueue-automaton", RUN, "[args...]", "enqueue a run of Automaton with these arguments; prints the job's id",
         "enqueueing:enqueue_automaton", _COMMON, 0, None, True),
    Verb("wait", RUN, "<job>", "wait for a job's end; prints its output and exits with its code",
         "waiting:wait", (RAW, JSON), 1, 1),
    Verb("status", RUN, "[job]", "one job, or without a word everything at a glance",
         "client_commands:status", (JSON,), 0, 1),
    Verb("jobs", RUN, "", "list the jobs, newest first",
         "listings:jobs", (
             Option("status", "only these: queued, leased, completed, failed, cancelled; a comma list", hint="STATUS"),
             Option("label", "only with this label; repeat it for more", "list", "KEY=VALUE"),
             Option("limit", "at most so many; 20 when not given", hint="N"),
             Option("all", "all there are", "flag"),
             JSON,
         )),
    Verb("logs", RUN, "<job>", "print what a finished job wrote",
         "client_commands:logs", (Option("stream", "only stdout, or only stderr", hint="STREAM"), RAW, JSON), 1, 1),
    Verb("explain", RUN, "<job or service>", "why a job waits, or a service does not run, host by host",
         "client_commands:explain", (JSON,), 1, 1),
    Verb("cancel", RUN, "<job>", "cancel a job; a running one is stopped",
         "client_commands:cancel", (JSON,), 1, 1),
    Verb("retry", RUN, "<job>", "queue a failed or cancelled job again",
         "client_commands:retry", (JSON,), 1, 1),
    Verb("deploy-service", SERVICES, "<name> <command> [args...]", "run a command as a service, or update it; prints its id",
         "deploying:deploy_service", _DEPLOY, 2, None, True, runs="service", notes=_DEPLOY_NOTES),
    Verb("list-services", SERVICES, "", "list the services; as JSON when no terminal reads it",
         "services:list_services", (JSON,)),
    Verb("service", SERVICES, "<service>", "one service, with its instances and revisions",
         "services:service", (JSON,), 1, 1),
    Verb("service-logs", SERVICES, "<service>", "print what its instances write, as far as it is kept",
         "service_logs:service_logs", (
             Option("follow", "go on until Ctrl-C", "flag", short="f"),
             Option("lines", "only the last lines of each instance", hint="LINES", short="n"),
             Option("instance", "only this instance; the beginning of its id is enough", hint="ID"),
             Option("all", "also instances that have ended, as far as they are remembered", "flag"),
             Option("raw", "print control characters as they are, also on a terminal", "flag"),
             JSON,
         ), 1, 1),
    Verb("scale", SERVICES, "<service> <n>", "say how many instances are wanted, 1 to 64",
         "services:scale", (JSON,), 2, 2),
    Verb("restart", SERVICES, "<service>", "replace its instances one after the other; start it if it was stopped",
         "services:restart", (_WAIT, JSON), 1, 1),
    Verb("rollback", SERVICES, "<service> [revision]", "go back to a former revision, or the one before; start it if it was stopped",
         "services:rollback", (_WAIT, JSON), 1, 2),
    Verb("stop-service", SERVICES, "<service>", "end its instances; restart, rollback and deploy-service start it again",
         "services:stop_service", (JSON,), 1, 1),
    Verb("remove-service", SERVICES, "<service>", "end its instances and forget it",
         "services:remove_service", (JSON,), 1, 1),
    Verb("hosts", HOSTS, "", "list the hosts",
         "listings:hosts", (JSON,)),
    Verb("pause", HOSTS, "<host>", "give a host no more work for now",
         "client_commands:pause", (JSON,), 1, 1),
    Verb("resume", HOSTS, "<host>", "give a paused or draining host work again",
         "client_commands:resume", (JSON,), 1, 1),
    Verb("drain", HOSTS, "<host>", "let a host finish what it has, and give it no more",
         "client_commands:drain", (JSON,), 1, 1),
    Verb("coordinator", PROCESSES, "", "keep the queue: accept jobs and hand them to hosts",
         "long_running:coordinator", (Option("json", "every line as JSON, also the log's", "flag"),), prints_lines=True),
    Verb("host", PROCESSES, "", "lend this machine: claim jobs and run them",
         "long_running:host", (Option("json", "every line as JSON, also the log's", "flag"),), prints_lines=True),
    Verb("gateway", PROCESSES, "", "route HTTP requests to the services: /v1/gateway/<service>/...",
         "long_running:gateway", (
             Option("print-config", "print the present routes as a configuration of caddy, haproxy or nginx, and end", hint="PROGRAM"),
             Option("json", "every line as JSON, also the log's", "flag"),
         ), prints_lines=True, notes=_GATEWAY),
    Verb("dev", PROCESSES, "", "a coordinator, a host and a gateway on this machine, to try things out",
         "dev:dev", (Option("json", "print address and process as JSON", "flag"),)),
    Verb("demo", PROCESSES, "", "show one job from enqueue to exit code, and clean up",
         "demo:demo", (JSON,)),
    Verb("peers", NETWORK, "", "list the coordinators and their logs, and the addresses that were not admitted",
         "network:peers", (JSON,), notes=_PEERS),
    Verb("join", NETWORK, "<url>", "tell the coordinator about another one; the two then find each other",
         "network:join", (Option("forget", "give up an address that is not admitted", "flag"), JSON), 1, 1, notes=_JOIN),
    Verb("leave", NETWORK, "", "let the coordinator give up its votes and logs, and wait until it can be stopped for good",
         "network:leave", (JSON,)),
    Verb("evict", NETWORK, "<coordinator>", "turn a coordinator out of the network, by its label or id",
         "network:evict", (Option("yes", "do not ask", "flag"), JSON), 1, 1),
    Verb("force-takeover", NETWORK, "", "give a log that has lost its voters to others; may lose acknowledged events",
         "takeover:force_takeover", (
             Option("log", "the log, by the beginning of its tag; all: each one whose owner cannot be seen", hint="LOG"),
             Option("voters", "who is to vote from now on, by label or id, the asked one among them; it alone if not given", hint="A,B"),
             Option("copies", "how many of them must hold a write; 1 if not given", hint="N"),
             Option("reason", "why; needed with --i-know, it is recorded in the log", hint="TEXT"),
             Option("i-know", "do it; without this only the copies are shown, and the exit code is 2", "flag"),
             Option("from-behind", "do it even where another coordinator that can be reached has a better copy", "flag"),
             JSON,
         ), notes=_TAKEOVER),
    Verb("backup", KEEPING, "<file>", "write a verified copy of SKYCLAW_DB_PATH, also while its coordinator runs",
         "backups:backup", (Option("replace", "replace the file if it is there", "flag"), JSON), 1, 1),
    Verb("restore", KEEPING, "<file>", "put a backup in the place of SKYCLAW_DB_PATH, as the database of a new node",
         "backups:restore", (
             Option("alone", "no other coordinator has these logs: own them", "flag"),
             Option("i-know", "with --alone: do it; without this it is only said what is overwritten, and the exit code is 2", "flag"),
             Option("replace", "put the database that is there aside, under another name", "flag"),
             JSON,
         ), 1, 1, notes=_RESTORE),
    Verb("import", KEEPING, "<url>", "take over the hosts, jobs and services of a coordinator of the TypeScript version",
         "importing:import_state", (Option("token", "that coordinator's token, if it wants one", hint="TOKEN"), JSON), 1, 1, notes=_IMPORT),
    Verb("config", HELP, "", "every setting, its value and where it is from",
         "config:config", (JSON,)),
    Verb("doctor", HELP, "", "check this machine, and the way to the coordinators",
         "doctor:doctor", (JSON,)),
)  # fmt: skip

VERBS = {verb.name: verb for verb in _TABLE}
