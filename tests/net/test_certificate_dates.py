"""The dates of certificates, read from the files that a server has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from ftpcluster.net.certificate_dates import Validity, doubts_about, validity

DAY = 24 * 3600
DATES = [
    (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),
    (datetime(2051, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
]


def issued(begin: datetime, end: datetime, name: str = "localhost") -> bytes:
    """A certificate behind its key, as in one file."""
    made = trustme.CA().issue_cert(name, not_before=begin, not_after=end)
    return made.private_key_and_cert_chain_pem.bytes()


@pytest.mark.parametrize(("begin", "end"), DATES)
@pytest.mark.parametrize("name", ["localhost", "a.long." * 30 + "name"])
def test_dates_are_those_of_the_first_certificate(
    begin: datetime, end: datetime, name: str
) -> None:
    pem = issued(begin, end, name) + issued(*DATES[0])
    assert validity(pem) == Validity(begin.timestamp(), end.timestamp())


def test_issuers_certificates_are_looked_at_as_well() -> None:
    now = datetime.now(UTC)
    past, future = now - timedelta(days=400), now + timedelta(days=400)
    good, expired = issued(past, future), issued(past, now - timedelta(days=2))
    early = issued(now + timedelta(days=2), future)
    assert list(doubts_about("f.pem", good + good)) == []
    (first,) = doubts_about("f.pem", expired + good)
    assert first.startswith("f.pem: the certificate has expired on ")
    second, third = doubts_about("f.pem", good + expired + early)
    assert second.startswith("f.pem: certificate 2 in it, an issuer's, has expired on ")
    assert second.endswith(", so clients may refuse the server's; renew it, and reload")
    assert third.startswith("f.pem: certificate 3 in it, an issuer's, is not valid before ")


@pytest.mark.parametrize("length", [0, 1, 10, 100, 200])
def test_what_is_no_certificate_has_no_dates(length: int) -> None:
    text = issued(*DATES[0]).partition(b"-----BEGIN CERTIFICATE-----")[2][:length]
    cut = b"-----BEGIN CERTIFICATE-----" + text + b"-----END CERTIFICATE-----\n"
    assert validity(cut) is None
    assert validity(b"") is None


def test_doubts_begin_two_weeks_before_the_end() -> None:
    end = datetime(2026, 6, 30, 12, tzinfo=UTC)
    found = Validity((end - timedelta(days=90)).timestamp(), end.timestamp())
    said = {
        days: found.doubt(end.timestamp() - days * DAY) for days in (91, 89, 15, 13, 0.1, -0.1, -99)
    }
    assert said[91] == "is not valid before 2026-04-01 12:00 UTC, so clients refuse it"
    assert said[89] is said[15] is None
    assert said[13] == said[0.1] == "expires on 2026-06-30 12:00 UTC; renew it, and reload"
    expired = "has expired on 2026-06-30 12:00 UTC, so clients refuse it; renew it, and reload"
    assert said[-0.1] == said[-99] == expired
