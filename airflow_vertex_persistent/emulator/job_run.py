# SPDX-License-Identifier: Apache-2.0
"""One job from its creation to its end: wait for machines, run the replicas, decide how it ended."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import CustomJob, CustomJobSpec, JobState
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from . import messages
from .endings import LOST, cancelled, end_job, until
from .environment import Task, cluster_addresses, tasks_of, vertex_variables
from .executors import CannotStartError, Replica
from .job_machines import machines_for
from .lifecycle import ENDED, Verdict, job_moved, verdict
from .world import JobEndedError, Outcome, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .executors import Running
    from .names import Key
    from .world import JobPlan, World

_log = logging.getLogger(__name__)
_DEFAULT_TIMEOUT = 7 * 24 * 3600


class JobRun:
    """
    Takes one job through its states.

    :param world: what it needs of the emulator.
    :param key: the job, which is in the store as PENDING.
    :param plan: where it is to run.
    """

    def __init__(self, world: World, key: Key, plan: JobPlan) -> None:
        self._world = world
        self._key = key
        self.plan = plan
        self._stop = asyncio.Event()
        self._stopped: Outcome | None = Outcome(JobState.JOB_STATE_CANCELLED)
        self._created = world.clock()
        # Now and not in the task: of two jobs that race for the last machine, the second must see the first.
        self._machines = machines_for(world, key, plan, self._job, self._wait_as)
        self._waits = True
        self._running: dict[Task, Running] = {}
        self._time_limit = asyncio.timeout(None)
        self.task = asyncio.create_task(self._supervise(), name=f"job {key.id}")

    @property
    def _job(self) -> CustomJob:
        """The job as the store has it now."""
        job = self._world.store.jobs.get(self._key)
        if job is None:
            raise RuntimeError(f"active job {self._key.id} left the store")
        return job

    @property
    def _spec(self) -> CustomJobSpec:
        return self._job.job_spec

    def stop(self, text: str) -> None:
        """
        Ask the job to end as CANCELLED; it is CANCELLING from now on.

        :param text: the reason, as its error will say it.
        """
        if not self._stop.is_set() and self._job.state not in ENDED:
            self._stopped = cancelled(text)
            self._move(JobState.JOB_STATE_CANCELLING)
        self._stop.set()
        if self._waits:
            self._machines.leave()

    def leave_waiting(self) -> bool:
        """End the work on a job that waits and leave it as it is; ``False`` when it does not wait."""
        if not self._waits or self._stop.is_set() or self._job.state in ENDED:
            return False
        self._stopped = None
        self._stop.set()
        return True

    def lose_machines(self) -> None:
        """Let the job end as FAILED, unless it is to be cancelled already."""
        if not self._stop.is_set():
            self._stopped = LOST
        self._stop.set()

    async def _supervise(self) -> None:
        """Run the work until it is done or stopped, then clean up whatever happened."""
        work = await until(self._stop, self._work())
        outcome = self._outcome(work)
        try:
            await self._clean_up()
        except Exception:  # noqa: BLE001 - whatever goes wrong here, the job must end; the log has the traceback
            _log.exception("cleaning up after job %s failed", self._key.id)
        if outcome is not None:
            await self._finish(outcome)

    def _outcome(self, work: asyncio.Task[None]) -> Outcome | None:
        """How the job ends; ``None`` when it is left as it is."""
        if work.cancelled():
            return self._stopped
        error = work.exception()
        if error is None:
            return Outcome(JobState.JOB_STATE_SUCCEEDED)
        if isinstance(error, JobEndedError):
            return error.outcome
        if isinstance(error, TimeoutError):
            return self._timed_out()
        _log.error("job %s ended with an error of the emulator", self._key.id, exc_info=error)
        return LOST

    def _timed_out(self) -> Outcome:
        text = messages.timed_out(self._timeout)
        self._say(text)
        if self._world.settings.timeout_state == "failed":
            return Outcome(JobState.JOB_STATE_FAILED, Status(code=code_pb2.DEADLINE_EXCEEDED, message=text))
        return cancelled(text)

    @property
    def _timeout(self) -> float:
        """Seconds that the job may run."""
        timeout = CustomJobSpec.pb(self._spec).scheduling.timeout
        return timeout.seconds + timeout.nanos / 1e9 or _DEFAULT_TIMEOUT

    async def _work(self) -> None:
        self._say("Waiting for job to be provisioned.")
        while True:
            await self._machines.get()
            self._waits = False
            self._say("Vertex AI is setting up this job.")
            self._say("Waiting for training program to start.")
            self._say("Job is preparing.")
            async with asyncio.timeout(None) as self._time_limit:
                work = await until(self._machines.preempted, self._run_until_decided())
            if not work.cancelled():
                work.result()
                break
            await self._clean_up()
            self._machines.lose()
            self._wait_as(JobState.JOB_STATE_PENDING)
            self._waits = True
        self._say("Task completed. Exit code (0). Exit reason (SUCCEEDED)")

    def _wait_as(self, state: int) -> None:
        """Show the job in a state in which it waits, unless it is about to end."""
        if self._job.state != state and not self._stop.is_set():
            self._move(state)

    async def _run_until_decided(self) -> None:
        settings = self._world.settings
        retries = 0
        while codes := await self._run_once(retries):
            code = max(codes.values())
            after = verdict(
                code,
                retries,
                settings.max_retries,
                disable_retries=self._spec.scheduling.disable_retries,
            )
            if after is Verdict.FAIL:
                self._say(f"Task completed. Exit code ({code}). Exit reason (FAILED)")
                raise failed(code_pb2.INVALID_ARGUMENT, self._exit_text(codes))
            retries += 1
            self._say(
                f"Replica exited with {code}; the job is run again ({retries} of {settings.max_retries})."
            )
            await self._clean_up()
            await asyncio.sleep(settings.retry_delay_seconds)

    async def _run_once(self, attempt: int) -> dict[Task, int]:
        """
        Run all replicas until the primary one succeeds or any of them fails.

        :return: exit status of each replica that failed; empty for success.
        """
        tasks = tasks_of(self._spec)
        addresses = cache(lambda: cluster_addresses(tasks, free_ports(len(tasks))))
        for task in tasks:
            await self._start(task, addresses, attempt)
        if self._job.state == JobState.JOB_STATE_PENDING:
            self._move(JobState.JOB_STATE_RUNNING)
            # What counts is the time at work: getting all replicas up is none of it.
            self._time_limit.reschedule(asyncio.get_running_loop().time() + self._timeout)
            self._say("Job is running.")
        primary, going = tasks[0], {running.exited: task for task, running in self._running.items()}
        while True:
            done, _ = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
            codes = {going.pop(future): future.result() for future in done}
            if codes.get(primary) == 0:
                return {}
            if bad := {task: code for task, code in codes.items() if code}:
                return bad

    async def _start(self, task: Task, addresses: Callable[[], Mapping[Task, str]], attempt: int) -> None:
        container = self._spec.worker_pool_specs[task.pool].container_spec
        with ExitStack() as cleanup:
            log = self._world.logs.writer(self._key.id, task.name)
            cleanup.callback(log.close)
            replica = Replica(
                id=f"{self._key.id}:{task.name}:{attempt}",
                image=container.image_uri,
                log=log,
                command=list(container.command),
                args=list(container.args),
                service=lambda: self._variables(task, addresses()),
                env=[(variable.name, variable.value) for variable in container.env],
            )
            try:
                self._running[task] = await self._world.executor.start(replica)
            except CannotStartError as error:
                if error.advice:
                    self._say(error.advice)
                raise failed(code_pb2.INVALID_ARGUMENT, f"{error} {self._log_link()}") from error
            cleanup.pop_all()

    def _variables(self, task: Task, addresses: Mapping[Task, str]) -> dict[str, str]:
        """What Vertex AI sets on one replica; that of a trial gets a folder for its metrics."""
        location, metric_file = self._key.location, self._world.metric_file(self._key.id, task.name)
        if self.plan.trial:
            metric_file.parent.mkdir(parents=True, exist_ok=True)
        return vertex_variables(
            self._spec,
            addresses,
            task,
            job_id=self._key.id,
            project=str(location.project),
            region=str(location.region),
            trial=self.plan.trial,
            metric_file=str(metric_file),
        )

    async def _clean_up(self) -> None:
        """End all replicas, then let what they wrote below /gcs be seen."""
        if self._running:
            self._say("Tearing down training program.")
            await asyncio.gather(*(running.end() for running in self._running.values()))
            # Only now: when this is interrupted by a cancel, the next clean-up has to do it all again.
            self._running.clear()
            await self._world.adopt_files(self._created)
            self._say("Finished tearing down training program.")

    async def _finish(self, outcome: Outcome) -> None:
        self._machines.release()
        self._say(messages.END_OF_JOB[outcome.state])
        jobs = self._world.store.jobs
        await end_job(self._world, jobs, self._key, outcome, delay=self.plan.error_delay, stop=self._stop)

    def _move(self, state: int, error: Status | None = None) -> None:
        self._world.store.jobs.put(self._key, job_moved(self._job, state, self._world.clock(), error))

    def _say(self, text: str) -> None:
        self._world.logs.say(self._key.id, text)

    def _log_link(self) -> str:
        return messages.log_link(str(self._key.location.project), self._key.id)

    def _exit_text(self, codes: Mapping[Task, int]) -> str:
        names = sorted(task.name for task in codes)
        traceback = next(
            (text for name in names if (text := self._world.logs.traceback(self._key.id, name))), ""
        )
        return messages.replicas_failed(names, max(codes.values()), traceback, self._log_link())


def free_ports(count: int) -> list[int]:
    """Different free ports of the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
