import errno
import functools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.adapters.code_sandbox import seccomp, syscalls
from workers.adapters.code_sandbox.seccomp import PYSPARK, PYTHON, Filter

ALLOWED, KILLED = "allowed", "killed"


written = functools.cache(seccomp.program)


def verdict(
    wanted: Filter, call: str | int, *arguments: int, machine: str = "x86_64", convention: int | None = None
) -> str:
    """What the kernel would do: a reader of the program that knows the kernel's rules and nothing of who wrote it."""
    number = syscalls.number(call, machine) if isinstance(call, str) else call
    assert number is not None
    told = struct.pack(
        "iIQ6Q", number, convention or syscalls.MACHINES[machine][0], 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6]
    )
    program, at, value = written(wanted, machine), 0, 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("I", told, constant)
            case 0x15:
                at += if_true if value == constant else if_false
            case 0x25:
                at += if_true if value > constant else if_false
            case 0x45:
                at += if_true if value & constant else if_false
            case 0x06:
                if constant & 0xFFFF0000 == 0x00050000:
                    return errno.errorcode[constant & 0xFFFF]
                return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}[constant]


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("wanted", [PYTHON, PYSPARK])
@settings(deadline=None, max_examples=60)
@given(number=st.integers(-(2**31), 2**31 - 1), data=st.data())
def test_nothing_is_allowed_that_is_not_named(wanted: Filter, number: int, data: st.DataObject) -> None:
    machine = data.draw(st.sampled_from(sorted(syscalls.MACHINES)))
    number = data.draw(st.sampled_from([number, number % 500]))
    names = {*wanted.allowed, *(check.name for check in wanted.checked)}
    named = {syscalls.number(name, machine) for name in names}

    answer = verdict(wanted, number, machine=machine)

    if number not in named:
        newer = number % 2**32 > syscalls.NEWEST
        assert answer == "ENOSYS" if newer or number == 435 else answer == "EPERM"


def test_another_calling_convention_is_death(machine: str) -> None:
    other = {"x86_64": 0x40000003, "aarch64": 0x40000028}[machine]

    assert verdict(PYTHON, "read", machine=machine, convention=other) == KILLED


def test_x32_numbers_are_not_there() -> None:
    assert verdict(PYSPARK, 0x40000000 + 59) == "ENOSYS"


def test_python_has_threads_and_no_processes(machine: str) -> None:
    thread, process = 0x003D0F00, 17
    assert verdict(PYTHON, "clone", thread, machine=machine) == ALLOWED
    assert verdict(PYTHON, "clone", process, machine=machine) == "EPERM"
    assert verdict(PYTHON, "clone3", machine=machine) == "ENOSYS"
    assert verdict(PYTHON, "execve", machine=machine) == "EPERM"
    assert verdict(PYSPARK, "clone", process, machine=machine) == ALLOWED
    assert verdict(PYSPARK, "execve", machine=machine) == ALLOWED


@pytest.mark.parametrize("flag", [1 << bit for bit in (7, 17, 25, 26, 27, 28, 29, 30)])
def test_nobody_makes_namespaces(flag: int, machine: str) -> None:
    assert verdict(PYSPARK, "clone", 17 | flag, machine=machine) == "EPERM"


def test_sockets_are_for_spark_alone_and_of_three_kinds(machine: str) -> None:
    assert {verdict(PYTHON, "socket", family, machine=machine) for family in (*range(12), 16, 17, 38, 40, 44)} == {
        "EPERM"
    }
    allowed = [
        family
        for family in (*range(12), 16, 17, 38, 40, 44)
        if verdict(PYSPARK, "socket", family, machine=machine) == ALLOWED
    ]
    assert allowed == [1, 2, 10]
    assert [f for f in range(12) if verdict(PYTHON, "socketpair", f, machine=machine) == ALLOWED] == [1]


@settings(deadline=None, max_examples=60)
@given(request_=st.integers(0, 2**32 - 1))
def test_no_request_to_a_device_but_harmless_ones(request_: int) -> None:
    allowed = {0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451}
    assert verdict(PYTHON, "ioctl", 0, request_) == (ALLOWED if request_ in allowed else "ENOTTY")
    assert verdict(PYTHON, "ioctl", 0, 0x5412) == "ENOTTY"  # putting words into a terminal's mouth


def test_only_the_lower_half_of_a_number_counts_as_the_kernel_does() -> None:
    assert verdict(PYTHON, "clone", (1 << 40) | 17) == "EPERM"


@pytest.mark.parametrize(
    "name", ["ptrace", "mount", "bpf", "keyctl", "userfaultfd", "unshare", "setns", "io_uring_setup"]
)
def test_what_is_dangerous_is_not_even_in_the_list(name: str) -> None:
    assert name not in syscalls.COMPUTING | syscalls.STARTING


def test_a_machine_without_numbers_is_not_known() -> None:
    assert seccomp.known("x86_64")
    assert not seccomp.known("riscv64")


def test_numbers_are_the_kernels(machine: str) -> None:
    """Some that everybody knows, so that a shifted list is seen."""
    known = {"x86_64": {"read": 0, "openat": 257, "clone": 56}, "aarch64": {"read": 63, "openat": 56, "clone": 220}}
    assert {name: syscalls.number(name, machine) for name in known[machine]} == known[machine]
