"""The command table: every verb on one screen. FEAT and HELP are generated from it.

A handler is ``handler(session, argument)``. It returns a Reply, or an awaitable of one where something
has to wait, or it raises. What must hold before it is called (the gates) is written here and
enforced in ``preconditions``.
"""

from __future__ import annotations

from ftpcluster.session.commands import (
    access,
    digests,
    directories,
    files,
    hosts,
    information,
    listings,
    parameters,
    security,
    site,
    transfers,
)
from ftpcluster.session.row import Argument, Command, During

NONE, OPTIONAL, REQUIRED = Argument.NONE, Argument.OPTIONAL, Argument.REQUIRED
WORDS, NEEDS_WORDS = Argument.WORDS, Argument.NEEDS_WORDS
NO_LOGIN = False  # a login is not needed

# fmt: off
ROWS = (
    # Access control (RFC 959 section 4.1.1)
    Command("USER", access.user, REQUIRED, NO_LOGIN, sequence=access.over_tls, help="USER name: say who you are"),
    Command("PASS", access.password, OPTIONAL, NO_LOGIN, sequence=access.after_user, help="PASS password: log in"),
    Command("QUIT", access.quit_, WORDS, NO_LOGIN, help="QUIT: end the session"),
    Command("REIN", access.rein, NONE, NO_LOGIN, help="REIN: begin anew"),
    Command("ACCT", access.acct, REQUIRED, help="ACCT: nothing, there are no accounts"),
    Command("HOST", hosts.host, NEEDS_WORDS, NO_LOGIN, sequence=hosts.before_login, feature="HOST", help="HOST name: the server that you mean; this one has one name for all"),
    Command("CWD", directories.cwd, OPTIONAL, help="CWD [path]: change the current directory"),
    Command("XCWD", directories.cwd, OPTIONAL, help="XCWD [path]: as CWD"),
    Command("CDUP", directories.cdup, NONE, help="CDUP: change to the directory above"),
    Command("XCUP", directories.cdup, NONE, help="XCUP: as CDUP"),
    # Transfer parameters (RFC 959 section 4.1.2, RFC 2428)
    Command("TYPE", parameters.type_, NEEDS_WORDS, help="TYPE A|I|L 8: text or binary"),
    Command("MODE", parameters.mode, NEEDS_WORDS, help="MODE S: stream"),
    Command("STRU", parameters.structure, NEEDS_WORDS, help="STRU F: file"),
    Command("PORT", parameters.port, NEEDS_WORDS, help="PORT h1,h2,h3,h4,p1,p2: connect to my data port (IPv4)"),
    Command("EPRT", parameters.eprt, NEEDS_WORDS, feature="EPRT", help="EPRT |1|address|port|: connect to my data port"),
    Command("PASV", parameters.pasv, NONE, help="PASV: open a data port (IPv4)"),
    Command("EPSV", parameters.epsv, WORDS, feature="EPSV", help="EPSV [1|2|ALL]: open a data port"),
    # Service (RFC 959 section 4.1.3, RFC 3659)
    Command("RETR", transfers.retr, REQUIRED, transfers=True, logged=True, names_path=True, help="RETR path: download"),
    Command("STOR", transfers.stor, REQUIRED, transfers=True, logged=True, names_path=True, help="STOR path: upload"),
    Command("STOU", transfers.stou, OPTIONAL, transfers=True, logged=True, help="STOU [prefix]: upload to a new name"),
    Command("APPE", transfers.appe, REQUIRED, transfers=True, logged=True, names_path=True, help="APPE path: upload to a file's end"),
    Command("ALLO", transfers.allo, NEEDS_WORDS, help="ALLO bytes: is there room for so much?"),
    Command("AVBL", transfers.avbl, OPTIONAL, feature="AVBL", help="AVBL [path]: bytes that may be written there"),
    Command("REST", transfers.rest, NEEDS_WORDS, feature="REST STREAM", help="REST offset: where the next transfer begins"),
    Command("ABOR", transfers.abor, NONE, during=During.ABORTS, help="ABOR: end the transfer that runs"),
    Command("LIST", listings.list_, OPTIONAL, transfers=True, help="LIST [path]: list a directory as ls -l does"),
    Command("NLST", listings.nlst, OPTIONAL, transfers=True, help="NLST [path]: list names"),
    Command("MLSD", listings.mlsd, OPTIONAL, transfers=True, help="MLSD [path]: list a directory's facts"),
    Command("MLST", listings.mlst, OPTIONAL, feature=listings.mlst_feature(), help="MLST [path]: the facts of one entry"),
    Command("STAT", information.status, OPTIONAL, NO_LOGIN, during=During.ANSWERED_BARE, help="STAT [path]: this session, or a directory"),
    Command("PWD", directories.pwd_, NONE, help="PWD: name the current directory"),
    Command("XPWD", directories.pwd_, NONE, help="XPWD: as PWD"),
    Command("MKD", directories.mkd, REQUIRED, logged=True, names_path=True, help="MKD path: make a directory"),
    Command("XMKD", directories.mkd, REQUIRED, logged=True, names_path=True, help="XMKD path: as MKD"),
    Command("RMD", directories.rmd, REQUIRED, logged=True, names_path=True, help="RMD path: remove an empty directory"),
    Command("XRMD", directories.rmd, REQUIRED, logged=True, names_path=True, help="XRMD path: as RMD"),
    Command("DELE", files.dele, REQUIRED, logged=True, names_path=True, help="DELE path: remove a file"),
    Command("RNFR", files.rnfr, REQUIRED, help="RNFR path: what to rename"),
    Command("RNTO", files.rnto, REQUIRED, sequence=files.after_rnfr, abortable=True, logged=True, names_path=True, source=files.what_rnfr_named, help="RNTO path: its new name"),
    Command("SIZE", files.size, REQUIRED, feature="SIZE", help="SIZE path: bytes of a file"),
    Command("MDTM", files.mdtm, REQUIRED, feature="MDTM", help="MDTM [YYYYMMDDHHMMSS] path: when a file was changed, or set that (UTC)"),
    Command("MFMT", files.mfmt, REQUIRED, logged=True, feature="MFMT", help="MFMT YYYYMMDDHHMMSS path: set when a file was changed (UTC)"),
    Command("SITE", site.site, OPTIONAL, NO_LOGIN, logged=True, feature="SITE CHMOD\nSITE UTIME", help="SITE HELP: what this server has of its own"),
    # Digests (draft-bryan-ftpext-hash)
    Command("HASH", digests.hash_, REQUIRED, digests=True, feature=digests.hash_feature(), help="HASH path: a file's digest"),
    Command("RANG", digests.rang, NEEDS_WORDS, help="RANG first last: the bytes that the next HASH looks at"),
    Command("XCRC", digests.xcrc, REQUIRED, digests=True, feature="XCRC", help='XCRC "path" [start [end]]: a file\'s CRC-32'),
    Command("XMD5", digests.xmd5, REQUIRED, digests=True, feature="XMD5", help='XMD5 "path" [start [end]]: a file\'s MD5'),
    Command("XSHA1", digests.xsha1, REQUIRED, digests=True, feature="XSHA1", help='XSHA1 "path" [start [end]]: a file\'s SHA-1'),
    Command("XSHA256", digests.xsha256, REQUIRED, digests=True, feature="XSHA256", help='XSHA256 "path" [start [end]]: a file\'s SHA-256'),
    # Security (RFC 2228, RFC 4217)
    Command("AUTH", security.auth, NEEDS_WORDS, NO_LOGIN, sequence=security.before_tls, tls_feature="AUTH TLS\nAUTH SSL", help="AUTH TLS: protect the control connection"),
    Command("PBSZ", security.pbsz, NEEDS_WORDS, NO_LOGIN, sequence=security.after_tls, tls_feature="PBSZ", help="PBSZ 0: the size of protected buffers"),
    Command("PROT", security.prot, NEEDS_WORDS, NO_LOGIN, sequence=security.after_tls, tls_feature="PROT", help="PROT P|C: protect data connections, or not"),
    Command("CCC", security.ccc, NONE, NO_LOGIN, sequence=security.while_tls, tls_feature="CCC", help="CCC: go on without TLS on the control connection"),
    # Information (RFC 959 section 4.1.3, RFC 2389)
    Command("SYST", information.syst, NONE, NO_LOGIN, help="SYST: the kind of system"),
    Command("FEAT", information.feat, NONE, NO_LOGIN, help="FEAT: what this server can do"),
    Command("HELP", information.help_, WORDS, NO_LOGIN, help="HELP [verb]: this text"),
    Command("OPTS", information.opts, NEEDS_WORDS, NO_LOGIN, help="OPTS UTF8 ON, OPTS MLST fact;…, OPTS HASH algorithm: options"),
    Command("CLNT", information.clnt, WORDS, NO_LOGIN, feature="CLNT", help="CLNT name: what program you are"),
    Command("NOOP", information.noop, WORDS, NO_LOGIN, during=During.ANSWERED, help="NOOP: nothing"),
)
# fmt: on

COMMANDS: dict[bytes, Command] = {row.verb.encode(): row for row in ROWS}

ALIASES = {b"P@SW": b"PASV"}
"""Verbs that mean another one, and that HELP does not name. Old routers make P@SW of PASV."""

NOT_IMPLEMENTED = frozenset(b"ADAT CONF ENC LANG LPRT LPSV MFCT MFF MIC SMNT".split())
"""Verbs that are known, but that this server does not have (502)."""

information.describe(ROWS)
