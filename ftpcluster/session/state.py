"""What a session knows, ordered by how long it lasts, and what the commands may ask of it.

What all sessions of a process share stands in ``services``.
"""

from __future__ import annotations

import logging
from typing import Protocol

import msgspec

from ftpcluster.answers import Answer, settled, then
from ftpcluster.logs import Who, is_told, tell
from ftpcluster.net.active import ActiveTarget
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.address import display, plain
from ftpcluster.protocol.errors import (
    FileNameNotAllowed,
    FileUnavailable,
    FTPError,
    LocalProblem,
    NoDataConnection,
    NotLoggedIn,
    ProtectionRequired,
)
from ftpcluster.protocol.path import resolve
from ftpcluster.protocol.pattern import Names
from ftpcluster.protocol.protection import Protection
from ftpcluster.protocol.reply import Reply
from ftpcluster.protocol.text import visible
from ftpcluster.quota.leases import SessionLimits
from ftpcluster.session.accepting import AcceptingData
from ftpcluster.session.control import NOBODY, Control
from ftpcluster.session.conversation import Conversation
from ftpcluster.session.home import begins_at_home, home_or_entry, in_home
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.login import Account, Claim, Unauthenticated
from ftpcluster.session.rights import rights_of
from ftpcluster.session.services import Services
from ftpcluster.session.transfer_parameters import Pending, TransferParameters
from ftpcluster.session.transfer_waits import TransferWaits
from ftpcluster.storage.base import Storage
from ftpcluster.users import Permission, User, speeds_of

log = logging.getLogger("ftpcluster.session")

_LONGEST_NAME = 64
"""Characters of a user's name that are shown."""


class PastTransfer(Protocol):
    """What logs and counters want to know of a transfer."""

    path: str

    @property
    def direction(self) -> str: ...
    @property
    def is_protected(self) -> bool: ...


class Transfer(PastTransfer, Protocol):
    """What a session knows of a transfer over its data connection."""

    stream: Stream
    total: int | None

    @property
    def waits(self) -> TransferWaits: ...

    def limits_changed(self) -> None: ...


class Session:
    """One control connection's life, as the commands see it."""

    __slots__ = (
        "__weakref__",
        "_server_address",
        "_who",
        "control",
        "conversation",
        "current_directory",
        "data",
        "entries_read",
        "hooks",
        "last_transfer",
        "login",
        "needs_task",
        "parameters",
        "pending",
        "progress",
        "services",
        "settings",
        "stream",
        "tls",
        "transfer",
        "unauthenticated",
        "user_name",
    )

    def __init__(
        self,
        services: Services,
        stream: Stream,
        conversation: Conversation,
        control: Control,
    ) -> None:
        self.services = services
        self.settings = services.settings
        self.stream = stream
        self.conversation = conversation
        self.control = control
        self._server_address: str | None = None
        # for as long as the session
        # the control connection's, whose context serves data connections, too; kept after CCC
        self.tls = stream if isinstance(stream, TLSStream) else None
        self.login: Claim | Account | None = None
        self.needs_task = False
        """Whether commands run code that may ask for the task that it runs in."""
        self.user_name = ""
        self._who: Who | None = None
        self.unauthenticated = Unauthenticated(services.loop.time())
        # until changed
        self.parameters = TransferParameters()
        self.current_directory = "/"
        self.pending = Pending()  # for one command
        # from PASV, EPSV, PORT or EPRT until a command takes it
        self.data: PassiveListener | AcceptingData | ActiveTarget | Stream | None = None
        # bytes of the transfer that runs, which shows whether it stalls
        self.progress = 0
        self.entries_read = 0  # of directories that listings have read, for the same purpose
        self.transfer: Transfer | None = None
        self.last_transfer: PastTransfer | None = None  # of the command that runs
        self.hooks = NO_HOOKS if services.hooks_for is None else services.hooks_for(self)

    @property
    def who(self) -> Who:
        """Who it is, as logs have it."""
        if self._who is None:
            talk = self.conversation
            peer = display(talk.peer, talk.peer_port)
            self._who = Who.of(talk.session, peer, self.user_name)
        return self._who

    def note(self, level: int, text: str) -> None:
        """Log an event of this session."""
        if is_told(level):
            tell(level, self.who, text)

    def note_bug(self, error: BaseException) -> None:
        """Log an unexpected error, with its traceback."""
        log.error("%s: a command failed: %r", self.who, error, exc_info=error)

    @property
    def account(self) -> Account:
        """Raises NotLoggedIn."""
        if type(self.login) is not Account:
            raise NotLoggedIn
        return self.login

    @property
    def is_logged_in(self) -> bool:
        return type(self.login) is Account

    @property
    def has_tls(self) -> bool:
        """Whether there is TLS for this client: AUTH, or from the beginning."""
        return self.services.tls is not None and self.conversation.tls is not Protection.OFF

    @property
    def storage(self) -> Storage:
        return self.account.storage.now()

    def announce(self, reply: Reply) -> None:
        """Send a reply that is not a command's last, at once: a preliminary one, for instance."""
        self.control.announce(reply)

    async def room(self) -> None:
        """Wait until the client has read nearly all that was announced."""
        await self.control.room()

    @property
    def server_address(self) -> str:
        """This server's address as this client reaches it."""
        if self._server_address is None:
            self._server_address = plain(self.stream.local_address()[0])
        return self._server_address

    def path(self, argument: str) -> str:
        """The virtual path that an argument names. It is for logs: permissions are not checked."""
        if argument[:1] == "~" and begins_at_home(argument) and type(self.login) is Account:
            return in_home(self.login, argument)
        return resolve(self.current_directory, argument)

    def readable(self, argument: str) -> Answer[str]:
        """The virtual path that an argument names, where the user may read it. It is returned at
        once, unless the program's own code decides. Raises FileUnavailable.
        """
        return self._checked(argument, writes=False)

    def writable(self, argument: str) -> Answer[str]:
        """The virtual path that an argument names, where the user may write it. It is returned at
        once, unless the program's own code decides. Raises FileUnavailable, FileNameNotAllowed.
        """
        return self._checked(argument, writes=True)

    def _checked(self, argument: str, *, writes: bool) -> Answer[str]:
        login = self.login
        if type(login) is not Account:
            raise NotLoggedIn
        path = None if self.hooks is NO_HOOKS else self.hooks.locate(argument)
        if path is None:
            if argument[:1] == "~" and begins_at_home(argument):
                return self._checked_from_home(login, argument, writes=writes)
            path = resolve(self.current_directory, argument)
        permission = login.rights.at(path)
        if not isinstance(permission, Permission):
            return then(permission, self._permitted, path, login.forbidden, writes=writes)
        is_permitted = permission.writable if writes else permission.readable
        if is_permitted and not login.forbidden.has_patterns:  # as for most
            return path
        return self._permitted(permission, path, login.forbidden, writes=writes)

    async def _checked_from_home(self, login: Account, argument: str, *, writes: bool) -> str:
        path = await home_or_entry(login, self.current_directory, argument, login.forbidden)
        return await settled(self._checked(path, writes=writes))

    def _permitted(
        self, permission: Permission, path: str, forbidden: Names, *, writes: bool
    ) -> str:
        if not (permission.writable if writes else permission.readable):
            raise FileUnavailable("Permission denied.")
        if forbidden.has_patterns and forbidden.are_in(path):
            raise FileNameNotAllowed if writes else FileUnavailable("No such file or directory.")
        return path

    def take_restart(self) -> int:
        """The offset that REST set, for this transfer alone."""
        pending = self.pending
        offset, pending.restart = pending.restart, 0
        return offset

    def reinitialize(self) -> None:
        """As after the greeting, but for TLS (RFC 959 section 4.1.1, REIN)."""
        self.log_out()
        self.drop_data()
        self.parameters = TransferParameters(protected=self.parameters.protected)

    def take_rename_from(self) -> str:
        """The path that RNFR named; the table has checked that there is one."""
        pending = self.pending
        path, pending.rename_from = pending.rename_from, None
        assert path is not None
        return path

    def listen_for_data(self, listener: PassiveListener) -> None:
        """A data connection is going to come to ``listener``.

        A protected one is accepted at once: some clients finish the handshake before they send
        the command, others begin it only after 150.
        """
        listener.takes_any = self.conversation.any_address
        if self.tls is not None and self.parameters.protected:
            self.data = AcceptingData(self.services, self.conversation, listener, self.tls)
        else:
            self.data, talk, services = listener, self.conversation, self.services
            services.ports.early_acceptors.expect(listener, services.poller, talk.peer, talk.proxy)

    def protect_data(self, protected: bool) -> None:  # noqa: FBT001
        """Set the level of PROT, for a data connection that is prepared, too."""
        if protected == self.parameters.protected:
            return
        self.parameters.protected = protected
        if isinstance(self.data, PassiveListener):
            self.listen_for_data(self.data)
        elif isinstance(self.data, AcceptingData | Stream):
            self.drop_data()

    def check_data_protection(self) -> None:
        """Raises ProtectionRequired where data connections need TLS, and this one has none."""
        if self.settings.require_tls_data and not self.parameters.protected:
            self.drop_data()
            raise ProtectionRequired

    def take_data(self) -> Stream:
        """The data connection, which from now on is the caller's to close."""
        self.hooks.on_data_taken()
        data, self.data = self.data, None
        assert isinstance(data, Stream)
        return data

    def open_storage(self, user: User) -> Storage:
        """The files of a user. Raises OSError where they cannot be had."""
        storage = self.hooks.open_storage(user)
        if storage is not None:
            return storage
        home = user.home_path if user.create_home else None
        return self.services.files.open(user.base_path, home)

    def begin_login(self, user: User, name: str, storage: Storage | None = None) -> None:
        """``user`` has logged in, as ``name``; ``storage`` has the user's files, where it is open.

        Raises OSError where the user's directory cannot be opened.
        """
        home = str(user.home_path)
        if storage is None:
            storage = self.open_storage(user)
        rights = self.hooks.rights_of(user) or rights_of(user)
        # attributes of a program's own user class may raise: until here there is no login
        needs_task = storage.needs_task or rights.needs_task
        names = self.services.names_for(user)
        self.login = Account(user, storage, rights, *names, self._speed_limits(user))
        self.needs_task = needs_task
        self.current_directory = home
        self.user_name = shown(name)
        self._who = None

    def limits_changed(self, login: str | None) -> None:
        """Speed limits, or names, of a user have changed; None: those of all users."""
        if isinstance(self.login, Account) and login in (None, self.login.user.login or ""):
            user = self.login.user
            forbidden, unlisted = self.services.names_for(user)
            self.login = msgspec.structs.replace(
                self.login,
                speed_limits=self._speed_limits(user),
                forbidden=forbidden,
                unlisted=unlisted,
            )
            if self.transfer is not None:
                self.transfer.limits_changed()

    def _speed_limits(self, user: User) -> SessionLimits | None:
        """All that limits the speed: the server, the group, the user, and the connection's own."""
        account, each = speeds_of(user), self.services.rates_per_connection()
        account = account._replace(per_connection=account.per_connection.tightened(each))
        return self.services.quotas.speed_limits(account)

    def log_out(self) -> None:
        """End the login, if there is one, and forget what belonged to it."""
        login, self.login = self.login, None
        self.needs_task = False
        self.current_directory = "/"
        self.pending = Pending()
        if login is not None:
            self.give_back_user(login)
        if isinstance(login, Account):
            self.user_name = ""
            self._who = None
            self.unauthenticated.since = self.services.loop.time()
            self.services.quotas.logout(self.conversation.session)
        self.hooks.on_logout()

    def give_back_user(self, login: Claim | Account) -> None:
        """Tell the user manager, once, that a user is not needed any more."""
        if isinstance(login, Account) or (login.is_handed_out and login.user is not None):
            assert login.user is not None
            self.services.notify_logout(login.user)

    def forget_client(self) -> None:
        """The client is gone: from now on replies are dropped, and no hook is called."""
        self.control = NOBODY
        self.hooks = NO_HOOKS

    def not_begun(self) -> FTPError:
        """The error for a transfer that has not begun in time, mostly for want of a connection."""
        if isinstance(self.data, PassiveListener | AcceptingData):
            if self.data.has_come:
                return LocalProblem("The storage takes too long.")
            return self.data.nobody_came()
        return NoDataConnection("No data connection was made.")

    def drop_data(self) -> None:
        """Close the data connection, whether it was made or is awaited."""
        if self.hooks is not NO_HOOKS:
            self.hooks.on_data_dropped()
        data, self.data = self.data, None
        if data is None:
            return
        if isinstance(data, PassiveListener | AcceptingData):
            data.abandon()
        elif isinstance(data, Stream):
            data.close()


def shown(login: str) -> str:
    """A user's name for people to read: printable and short, whatever the client has sent."""
    return visible(login)[:_LONGEST_NAME]
