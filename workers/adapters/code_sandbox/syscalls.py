"""System calls by name: their numbers on the machines we know, and which of them sandboxed code may make."""

from __future__ import annotations

#: Machine -> (what the kernel calls its calling convention, which of the two numbers below is its own).
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

#: Calls with a larger number are newer than this list: they answer "not there", for which every library is prepared.
NEWEST = 450

#: name=x86_64/aarch64, from the kernel's own headers.
_NUMBERS = """
    accept=43/202 accept4=288/242 access=21/- alarm=37/- arch_prctl=158/- bind=49/200 brk=12/214 chdir=80/49
    chmod=90/- clock_getres=229/114 clock_gettime=228/113 clock_nanosleep=230/115 clone=56/220 clone3=435/435
    close=3/57 close_range=436/436 connect=42/203 copy_file_range=326/285 creat=85/- dup=32/23 dup2=33/-
    dup3=292/24 epoll_create=213/- epoll_create1=291/20 epoll_ctl=233/21 epoll_pwait=281/22 epoll_pwait2=441/441
    epoll_wait=232/- eventfd=284/- eventfd2=290/19 execve=59/221 exit=60/93 exit_group=231/94 faccessat=269/48
    faccessat2=439/439 fadvise64=221/223 fallocate=285/47 fchdir=81/50 fchmod=91/52 fchmodat=268/53 fcntl=72/25
    fdatasync=75/83 flock=73/32 fork=57/- fstat=5/80 fstatfs=138/44 fsync=74/82 ftruncate=77/46 futex=202/98
    get_robust_list=274/100 getcpu=309/168 getcwd=79/17 getdents=78/- getdents64=217/61 getegid=108/177
    geteuid=107/175 getgid=104/176 getgroups=115/158 getitimer=36/102 getpeername=52/205 getpgid=121/155
    getpgrp=111/- getpid=39/172 getppid=110/173 getpriority=140/141 getrandom=318/278 getresgid=120/150
    getresuid=118/148 getrlimit=97/163 getrusage=98/165 getsid=124/156 getsockname=51/204 getsockopt=55/209
    gettid=186/178 gettimeofday=96/169 getuid=102/174 ioctl=16/29 kill=62/129 link=86/- linkat=265/37
    listen=50/201 lseek=8/62 lstat=6/- madvise=28/233 membarrier=324/283 mincore=27/232 mkdir=83/-
    mkdirat=258/34 mlock=149/228 mmap=9/222 mprotect=10/226 mremap=25/216 msync=26/227 munlock=150/229
    munmap=11/215 nanosleep=35/101 newfstatat=262/79 open=2/- openat=257/56 openat2=437/437 pipe=22/-
    pipe2=293/59 pivot_root=155/41 poll=7/- ppoll=271/73 prctl=157/167 pread64=17/67 preadv=295/69
    preadv2=327/286 prlimit64=302/261 pselect6=270/72 pwrite64=18/68 pwritev=296/70 pwritev2=328/287 read=0/63
    readahead=187/213 readlink=89/- readlinkat=267/78 readv=19/65 recvfrom=45/207 recvmmsg=299/243
    recvmsg=47/212 rename=82/- renameat=264/38 renameat2=316/276 restart_syscall=219/128 rmdir=84/- rseq=334/293
    rt_sigaction=13/134 rt_sigpending=127/136 rt_sigprocmask=14/135 rt_sigreturn=15/139 rt_sigsuspend=130/133
    rt_sigtimedwait=128/137 sched_get_priority_max=146/125 sched_get_priority_min=147/126
    sched_getaffinity=204/123 sched_getparam=143/121 sched_getscheduler=145/120 sched_setaffinity=203/122
    sched_yield=24/124 select=23/- sendfile=40/71 sendmmsg=307/269 sendmsg=46/211 sendto=44/206
    set_robust_list=273/99 set_tid_address=218/96 setitimer=38/103 setpgid=109/154 setrlimit=160/164
    setsid=112/157 setsockopt=54/208 shutdown=48/210 sigaltstack=131/132 socket=41/198 socketpair=53/199
    stat=4/- statfs=137/43 statx=332/291 symlink=88/- symlinkat=266/36 sysinfo=99/179 tgkill=234/131 time=201/-
    timer_create=222/107 timer_delete=226/111 timer_getoverrun=225/109 timer_gettime=224/108
    timer_settime=223/110 timerfd_create=283/85 timerfd_gettime=287/87 timerfd_settime=286/86 times=100/153
    tkill=200/130 truncate=76/45 umask=95/166 uname=63/160 unlink=87/- unlinkat=263/35 utime=132/-
    utimensat=280/88 utimes=235/- vfork=58/- wait4=61/260 waitid=247/95 write=1/64 writev=20/66
"""

#: Files, memory, threads, time and signals to oneself: what any computation needs. What is not named is refused: no
#: tracing, no other process's memory, no mounts, modules, keys, namespaces, new programs, io_uring or shared memory.
_COMPUTING = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 creat close
    close_range stat fstat lstat newfstatat statx access faccessat faccessat2 lseek mmap mprotect munmap mremap
    msync mincore madvise brk mlock munlock rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending
    rt_sigtimedwait rt_sigsuspend sigaltstack poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl
    epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime pipe
    pipe2 dup dup2 dup3 fcntl flock fsync fdatasync truncate ftruncate fallocate getdents getdents64 getcwd
    chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat symlink symlinkat readlink readlinkat
    unlink unlinkat chmod fchmod fchmodat umask utime utimes utimensat gettimeofday time clock_gettime
    clock_getres clock_nanosleep nanosleep getrlimit setrlimit prlimit64 getrusage times sysinfo uname getpid
    getppid gettid getuid geteuid getgid getegid getresuid getresgid getpgrp getpgid getsid getgroups prctl
    arch_prctl set_tid_address set_robust_list get_robust_list rseq futex sched_yield sched_getaffinity
    sched_setaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
    getpriority exit exit_group wait4 waitid kill tgkill tkill restart_syscall getrandom membarrier alarm
    getitimer setitimer timer_create timer_settime timer_gettime timer_delete timer_getoverrun statfs fstatfs
    copy_file_range sendfile fadvise64 readahead getcpu sendmsg recvmsg sendto recvfrom shutdown getsockopt
    setsockopt getsockname getpeername
"""
COMPUTING = frozenset(_COMPUTING.split())

#: A virtual machine is another program, and talks with Python over the loopback of a network that has nothing else.
_STARTING = "fork vfork execve setsid setpgid connect bind listen accept accept4 sendmmsg recvmmsg"
STARTING = frozenset(_STARTING.split())


def number(name: str, machine: str) -> int | None:
    """None where this machine has no such call. Raises KeyError for machines and names that are not in the list."""
    return _TABLE[name][MACHINES[machine][1]]


def _table() -> dict[str, tuple[int | None, int | None]]:
    found = {}
    for entry in _NUMBERS.split():
        name, _, numbers = entry.partition("=")
        first, _, second = numbers.partition("/")
        found[name] = (_number(first), _number(second))
    return found


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


_TABLE = _table()
