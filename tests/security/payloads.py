"""What people write to reach what is inside: security.md's table and the public lists of payloads.

`{port}` is the canary's. The forms are those of PayloadsAllTheThings ("Server Side Request Forgery"), of
Orange Tsai's "A New Era of SSRF", of the URL standard's parser tests and of the clouds' pages on metadata.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

LOOPBACK, METADATA = "127.0.0.1", "169.254.169.254"
CARRIED = (LOOPBACK, "127.13.37.1", METADATA, "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.100.100.200")
"""Addresses that are tried in every form."""


def disguise(address: str) -> list[str]:
    """Write an IPv4 address in each unusual form that `inet_aton` or a browser takes for it."""
    number = int(IPv4Address(address))
    a, b, c, d = IPv4Address(address).packed
    dotted = f"{a}.{b}.{c}.{d}"
    forms = [
        f"{number}",
        f"{number + 2**32}",
        f"0x{number:08x}",
        f"0X{number:X}",
        f"0x{number + (0xFF << 32):x}",
        f"0{number:o}",
        f"00000000{number:o}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"000{a:o}.000{b:o}.000{c:o}.000{d:o}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0x{a:x}.{b}.0{c:o}.0x{d:x}",
        f"{a}.{b}.{c << 8 | d}",
        f"{a}.{b << 16 | c << 8 | d}",
        f"0x{a:x}.{b << 16 | c << 8 | d}",
        f"0{a:o}.0x{b << 16 | c << 8 | d:x}",
        f"{a:03}.{b:03}.{c:03}.{d:03}",
        f"{a}.{b}.{c}.0{d}",
        f"{a + 256}.{b + 256}.{c + 256}.{d + 256}",
        f"{dotted}.",
        f"{dotted}..",
        f"{dotted}%2e",
        dotted.replace(".", "%2e"),
        f"%{ord(str(a)[0]):02x}{str(a)[1:]}.{b}.{c}.{d}",
        f"{dotted}%00",
        f"{dotted}%00.example.com",
        f"{dotted}%20",
        f"{dotted}%0d%0a",
        f"[{dotted}]",
        f"[::{dotted}%25eth0]",
        f"0x{a:x}.{b}.{c}.{d}.",
        f"{number}".translate(_WIDE),
    ]
    return [form for form in forms if form != dotted]


def spell(address: str) -> list[str]:
    """Write an IPv4 address in each form that IDNA makes the usual one of."""
    return [
        address.translate(_WIDE),
        address.translate(_CIRCLED),
        address.translate(_DOUBLE_STRUCK),
        address.translate(_SUBSCRIPT),
        *(address.replace(".", dot) for dot in "。．｡"),
        address.translate(_CIRCLED).replace(".", "。"),
    ]


def carry(address: str) -> list[str]:
    """Write an IPv4 address in each form in which an IPv6 address carries it."""
    bits = int(IPv4Address(address))
    prefixes = ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "2001::", "2001:0:1:1::")
    low = [IPv6Address(int(IPv6Address(prefix)) | bits) for prefix in prefixes]
    six_to_four = IPv6Address(int(IPv6Address("2002::")) | bits << 80)
    teredo = IPv6Address(int(IPv6Address("2001:0:4136:e378:8000:63bf::")) | bits ^ 0xFFFF_FFFF)
    exploded = IPv6Address(int(IPv6Address("::ffff:0:0")) | bits).exploded
    forms = [str(form) for form in (*low, six_to_four, teredo)]
    return [f"[{form}]" for form in (*forms, exploded, exploded.upper(), f"::{address}", f"::FFFF:{address}")]


_WIDE = str.maketrans("0123456789.", "０１２３４５６７８９.")
_CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
_DOUBLE_STRUCK = str.maketrans("0123456789", "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡")
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

_INSIDE: dict[str, list[str]] = {
    "localhost": ["127.0.0.1", "::1"],
    "ip6-localhost": ["::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "inside.localhost": ["127.0.0.1"],
    "metadata": [METADATA],
    "metadata.google.internal": [METADATA],
    "instance-data": [METADATA],
    "host.docker.internal": ["172.17.0.1"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "redis.prod.svc.cluster.local": ["10.96.0.2"],
    "printer.local": ["192.168.0.2"],
    "nas.home.arpa": ["192.168.0.3"],
    "redis": ["10.0.0.7"],
}
_OUTSIDE: dict[str, list[str]] = {
    "localtest.me": ["127.0.0.1"],
    "spoofed.example": ["127.0.0.1"],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "7f000001.nip.io": ["127.0.0.1"],
    "www.10.0.0.1.nip.io": ["10.0.0.1"],
    "metadata.tencentyun.com": ["169.254.0.23"],
    "metadata.platformequinix.com": ["192.168.1.2"],
    "kubernetes.default": ["10.96.0.1"],
    "router.example": ["192.168.0.1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "six-to-four.example": ["2002:7f00:1::"],
    "unspecified.example": ["0.0.0.0"],  # noqa: S104  # looked up, not listened on
    "xn--bcher-kva.example": ["127.0.0.1"],
    "mixed.example": ["93.184.216.34", "127.0.0.1"],
    "mixed-families.example": ["93.184.216.34", "::1"],
    "mixed-last.example": ["8.8.8.8", "1.1.1.1", "9.9.9.9", "10.0.0.1"],
}
ZONE = _INSIDE | _OUTSIDE
"""Names, and the addresses that the name server tells of them."""

_FORBIDDEN_HOSTS = [
    *CARRIED,
    *(form for address in CARRIED for form in (*spell(address), *carry(address))),
    *_INSIDE,
    "LOCALHOST",
    "lOcAlHoSt.",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "𝓁ocalhost",
    "0.0.0.0",  # noqa: S104  # nor here
    "0.1.2.3",
    "127.255.255.254",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[5f00::1]",
]
FORBIDDEN = [f"http://{host}:{{port}}/" for host in _FORBIDDEN_HOSTS] + [
    "HTTP://127.0.0.1:{port}/",
    "hTtP://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}",
    "http://127.0.0.1:{port}?@good.example/",
    "http://127.0.0.1:{port}#@good.example/",
    "http://127.0.0.1:{port}/@good.example/",
    "http://127.0.0.1:{port}/http://good.example/",
    "http://127.0.0.1:00{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/iam/security-credentials/",
    "http://metadata.google.internal:{port}/computeMetadata/v1/?recursive=true",
    "http://nobody:{port}/",
    "http://nobody.prod.svc.cluster.local:{port}/",
    "http://100.100.100.200:{port}/latest/meta-data/",
    "http://192.0.0.192:{port}/opc/v1/instance/",
    "http://[fd00:ec2::254]:{port}/latest/meta-data/",
]
"""Well written, and inside by its host's form, whether or not there is such a host: FILE_URL_FORBIDDEN."""

UNREACHABLE = [
    f"http://{host}:{{port}}/"
    for host in (*_OUTSIDE, "bücher.example", "ROUTER.example", "router.example.", "nobody.example")
]
"""Well written, of names that lead inside or nowhere, as only a name server can tell: FILE_UNREACHABLE."""

INVALID = [f"http://{host}:{{port}}/" for address in CARRIED for host in disguise(address)] + [
    "http://good.example@127.0.0.1:{port}/",
    "http://good.example:80@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://:@127.0.0.1:{port}/",
    "http://a@b@127.0.0.1:{port}/",
    "http://good.example%40127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@good.example:{port}/",
    "http://127.0.0.1:{port}:80/",
    "http://127.0.0.1:80:{port}/",
    "http://127.0.0.1:{port}\\@good.example/",
    "http://127.0.0.1:{port}\\.good.example/",
    "http://good.example:80\\@127.0.0.1:{port}/",
    "http://good.example\\\\@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "http:/\\127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:////127.0.0.1:{port}/",
    "http://\t127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}\n/",
    "http://127.0.0.1:{port}/\r\nHost: good.example",
    "http://good.example\r\n127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ HTTP/1.1\r\nX: y",
    "http://127.0.0.1 @good.example:{port}/",
    "http://127.0.0.1\u2028:{port}/",
    "http://127.0.0.1\u200b:{port}/",
    "http://127.0.0.1%09:{port}/",
    "http://127.0.0.1:\uff11{port}/",
    "http://127.0.0.1:+{port}/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:{port}0000/",
    "http://127.0.0.1:0x50/",
    "http://127.0.0.1:22/",
    "http://127.0.0.1:6379/",
    "http://[::1:{port}/",
    "http://::1:{port}/",
    "http://[::1]{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::ffff:127.0.0.1%25lo]:{port}/",
    "http://[[::1]]:{port}/",
    "http://[v1.127.0.0.1]:{port}/",
    "http://0:{port}/",
    "http://00:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://①②⑦.①:{port}/",
    "http://０ｘ７ｆ．１:{port}/",
    "http://localhost..:{port}/",
    "http://.localhost:{port}/",
    "http://local\u00adhost:{port}/",  # a soft hyphen
    "http://local%68ost:{port}/",
    "http://localhost%00.example:{port}/",
    "http://*:{port}/",
    "http://$(id).example:{port}/",
    "http://loc\u0430lhost\uffff:{port}/",
    "http://" + "a" * 64 + ".example:{port}/",
    "http://127.0.0.1:{port}/" + "a" * 2_100,
]
"""Of a form that readers disagree on, or of a port that is not allowed: FILE_URL_INVALID."""

UNSUPPORTED = [
    *(
        f"{scheme}://127.0.0.1:{{port}}/"
        for scheme in (
            *("ftp", "sftp", "tftp", "ldap", "ldaps", "gopher", "dict", "ssh", "telnet", "smb", "imap"),
            *(
                "jar:http",
                "view-source:http",
                "url:http",
                "feed:http",
                "netdoc",
                "ws",
                "wss",
                "rtsp",
                "redis",
            ),
            *(
                "file",
                "FILE",
                "git",
                "svn",
                "s3",
                "gs",
                "blob:http",
                "filesystem:http",
                "php",
                "phar",
                "expect",
            ),
        )
    ),
    "gopher://127.0.0.1:{port}/_GET%20/%20HTTP/1.1%0d%0a%0d%0a",
    "dict://127.0.0.1:{port}/info",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "file:/etc/passwd",
    "file:///proc/self/environ",
    "unix:///var/run/docker.sock",
    "javascript:fetch('http://127.0.0.1:{port}/')",
    "jar:http://127.0.0.1:{port}/a.jar!/b.png",
    "idefics2://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "\\\\127.0.0.1:{port}\\share",
    "/\\127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    "localhost:{port}",
    "[::1]:{port}",
    " http://127.0.0.1:{port}/",
    "\thttp://127.0.0.1:{port}/",
    "\nhttp://127.0.0.1:{port}/",
    "\x01http://127.0.0.1:{port}/",
    "ht\ntp://127.0.0.1:{port}/",
    "http\n://127.0.0.1:{port}/",
    "h\tttp://127.0.0.1:{port}/",
    "\ufeffhttp://127.0.0.1:{port}/",
    "ｈｔｔｐ://127.0.0.1:{port}/",
    "http//127.0.0.1:{port}/",
    "../../etc/passwd",
    "/etc/passwd",
]
"""Of a scheme that is not fetched, or of none: FILE_URL_UNSUPPORTED."""

NESTED = [
    "data:text/plain,http://127.0.0.1:{port}/",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:{port}/'/></svg>",
    "data:text/html,<img src='http://127.0.0.1:{port}/'>",
    "data:image/svg+xml;base64,PHN2Zy8+",
    "data:text/uri-list,http://127.0.0.1:{port}/",
    "data:application/x-mpegurl,%23EXTM3U%0Ahttp://127.0.0.1:{port}/",
    "data:text/xml,<!DOCTYPE a [<!ENTITY b SYSTEM 'http://127.0.0.1:{port}/'>]><a>%26b;</a>",
]
"""Data URIs that hold another address: FILE_NOT_AN_IMAGE."""

BY_REASON = {
    "FILE_URL_FORBIDDEN": FORBIDDEN,
    "FILE_UNREACHABLE": UNREACHABLE,
    "FILE_URL_INVALID": INVALID,
    "FILE_URL_UNSUPPORTED": UNSUPPORTED,
    "FILE_NOT_AN_IMAGE": NESTED,
}
"""Every URL, by what its caller is told."""
