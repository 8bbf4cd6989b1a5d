"""The languages that have a client: one entry each, all that tests and `make test-clients` know of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fal.node import Node, NodeMissing

ROOT = Path(__file__).parents[2]
_PYTHON_ROOTS = (ROOT / "proto", ROOT / "clients/python")


@dataclass(frozen=True)
class Language:
    """One client."""

    name: str
    folder: Path
    """Where its commands run."""
    runner: tuple[str, ...] = ()
    """The program that makes the calls of vectors, if it has one; see clients/vectors/README.md."""
    debian: tuple[str, ...] = ()
    """Packages of Debian that it needs."""
    install: tuple[tuple[str, ...], ...] = ()
    """Commands that fetch and build the rest, tests and programs included; quick where nothing changed."""
    checks: tuple[tuple[str, ...], ...] = ()
    """Commands of its own tests."""
    program: tuple[str, ...] = ()
    """The program that its README shows. It prints the answer to the question of its arguments."""
    microservice: tuple[str, ...] = ()
    """The program that is called and calls the service, and passes on what its caller says of the call."""
    source: Path | None = None
    """That program, as README shows it."""
    readme: Path | None = None
    pack: tuple[str, ...] = ()
    """The command that lists the files that would be published; {folder} is one that is empty."""
    packed: tuple[str, ...] = ()
    """What must be among them, by the ends of their paths."""
    wire_code: str = ""
    """The folder, from the root of the repository, that `make proto-clients` fills; it holds nothing else."""
    variables: dict[str, str] = field(default_factory=dict)
    """What its programs have in their environment beside the usual."""


def _find_node() -> Node:
    """Find Node; where there is none, its commands will say so."""
    try:
        return Node.find()
    except NodeMissing:
        return Node("node", ("npm",))


_NODE = _find_node()

_GO_MODULE = "github.com/idefics2-serving/idefics2-serving/clients/go"
_GO_PROGRAMS = tuple(
    f"{_GO_MODULE}/{path}" for path in ("internal/vectors", "examples/ask", "examples/microservice")
)
_GO_PATH = ROOT / ".cache/go"
"""Where Go finds the module by its name, without a network, and leaves its programs."""

_CPP = ROOT / ".cache/cpp"
"""Where CMake builds the client, installs it, and builds what README shows with what is installed."""

_JARS = (
    *(
        "grpc-api",
        "grpc-context",
        "grpc-core",
        "grpc-netty",
        "grpc-protobuf",
        "grpc-protobuf-lite",
        "grpc-stub",
    ),
    *(
        "netty-buffer",
        "netty-codec",
        "netty-codec-http",
        "netty-codec-http2",
        "netty-common",
        "netty-handler",
    ),
    *("netty-resolver", "netty-transport", "protobuf", "protobuf-util", "guava", "perfmark-api"),
    *("jsr305", "geronimo-annotation-1.3-spec", "gson", "junit4", "hamcrest-core"),
    "netty-tcnative",
)
"""Java's, as Debian calls them; without perfmark calls hang."""

_GEM_CHECK = """
GEM_PATH=$(mktemp -d):$(gem env gempath) && export GEM_PATH GEM_HOME="${GEM_PATH%%:*}"
trap 'rm -r "$GEM_HOME"' EXIT
gem build *.gemspec --output "$GEM_HOME/client.gem"
gem install --local --no-document "$GEM_HOME/client.gem"
ruby -e 'gem "idefics2-client"; require "idefics2"'
"""
"""Installs Ruby's as its README says, beside the gems that it asks for, and loads it."""

LANGUAGES = (
    Language(
        name="python",
        folder=ROOT,
        runner=(sys.executable, str(ROOT / "tests/clients/python/vectors.py")),
        microservice=(sys.executable, str(ROOT / "clients/examples/microservice.py")),
        variables={"PYTHONPATH": os.pathsep.join(map(str, _PYTHON_ROOTS))},
    ),
    Language(
        name="typescript",
        folder=ROOT / "clients/typescript",
        wire_code="clients/typescript/src/gen",
        runner=(_NODE.node, "build/test/vectors.js"),
        install=((*_NODE.npm, "ci"), (*_NODE.npm, "run", "build"), (*_NODE.npm, "run", "build:test")),
        checks=((*_NODE.npm, "run", "lint"), (*_NODE.npm, "test")),
        program=(_NODE.node, "build/examples/ask.js"),
        microservice=(_NODE.node, "build/examples/microservice.js"),
        pack=(
            *("sh", "-c"),
            f"{' '.join(_NODE.npm)} pack --json --pack-destination {{folder}} && tar -tf {{folder}}/*",
        ),
        packed=(
            "dist/index.js",
            "dist/index.d.ts",
            "dist/gen/idefics2/v1/files_pb.js",
            "README.md",
            "LICENSE",
        ),
        source=ROOT / "clients/typescript/examples/ask.ts",
        readme=ROOT / "clients/typescript/README.md",
        variables={"PATH": os.pathsep.join((str(Path(_NODE.node).parent), os.environ["PATH"]))},
    ),
    Language(
        name="go",
        folder=ROOT / "clients/go",
        wire_code="clients/go/idefics2v1",
        runner=(str(_GO_PATH / "bin/vectors"),),
        debian=(
            "golang-go",
            "golang-google-grpc-dev",
            "golang-google-protobuf-dev",
            "golang-github-golang-protobuf-1-5-dev",  # with 1-3, which is chosen without it, calls panic
            "protoc-gen-go",
            "protoc-gen-go-grpc",
        ),
        install=(
            ("mkdir", "-p", str((_GO_PATH / "src" / _GO_MODULE).parent)),
            ("ln", "-sfn", str(ROOT / "clients/go"), str(_GO_PATH / "src" / _GO_MODULE)),
            ("go", "install", *_GO_PROGRAMS),
        ),
        checks=(
            ("sh", "-c", 'test -z "$(gofmt -d . | tee /dev/stderr)"'),
            ("go", "vet", f"{_GO_MODULE}/idefics2", f"{_GO_MODULE}/idefics2v1", *_GO_PROGRAMS),
            ("go", "test", "-timeout", "60s", f"{_GO_MODULE}/idefics2"),
        ),
        program=(str(_GO_PATH / "bin/ask"),),
        microservice=(str(_GO_PATH / "bin/microservice"),),
        source=ROOT / "clients/go/examples/ask/main.go",
        readme=ROOT / "clients/go/README.md",
        variables={
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOPATH": f"{_GO_PATH}{os.pathsep}/usr/share/gocode",
        },
    ),
    Language(
        name="cpp",
        folder=ROOT / "clients/cpp",
        wire_code="clients/cpp/gen",
        runner=(str(_CPP / "build/test/vectors"),),
        debian=(
            *("cmake", "g++", "make", "pkg-config", "clang-format"),
            *("protobuf-compiler", "protobuf-compiler-grpc", "libprotobuf-dev", "libgrpc++-dev"),
            *("libabsl-dev", "libc-ares-dev", "libre2-dev", "libssl-dev", "zlib1g-dev"),
            *("libgtest-dev", "nlohmann-json3-dev"),
        ),
        install=(
            (
                *("cmake", "-S", ".", "-B", str(_CPP / "build"), "-DCMAKE_CXX_FLAGS=-O1"),
                *("-DIDEFICS2_BUILD_TESTS=ON", f"-DCMAKE_INSTALL_PREFIX={_CPP / 'installed'}"),
            ),
            ("cmake", "--build", str(_CPP / "build"), "--parallel", "2"),
            ("cmake", "--install", str(_CPP / "build")),
            (
                *("cmake", "-S", "examples", "-B", str(_CPP / "examples")),
                f"-DCMAKE_PREFIX_PATH={_CPP / 'installed'}",
            ),
            ("cmake", "--build", str(_CPP / "examples")),
        ),
        checks=(
            (
                "sh",
                "-c",
                "clang-format --dry-run --Werror include/idefics2/*.h src/* test/*.cc test/*.h examples/*.cc",
            ),
            ("ctest", "--test-dir", str(_CPP / "build"), "--output-on-failure", "--no-tests=error"),
        ),
        program=(str(_CPP / "examples/ask"),),
        microservice=(str(_CPP / "examples/microservice"),),
        pack=("cmake", "--install", str(_CPP / "build"), "--prefix", "{folder}"),
        packed=(
            *("lib/libidefics2.a", "idefics2/client.h", "idefics2/v1/files.pb.h", "idefics2/LICENSE"),
            *("idefics2Config.cmake", "idefics2ConfigVersion.cmake", "idefics2Targets.cmake"),
        ),
        source=ROOT / "clients/cpp/examples/ask.cc",
        readme=ROOT / "clients/cpp/README.md",
    ),
    Language(
        name="java",
        folder=ROOT / "clients/java",
        wire_code="clients/java/src/main/java/idefics2/v1",
        # The heap is smaller than the file that is uploaded in constant memory.
        runner=("java", "-Xmx80m", "-XX:+UseSerialGC", "idefics2.client.Vectors"),
        debian=(
            *("openjdk-17-jdk-headless", "protobuf-compiler", "protobuf-compiler-grpc-java-plugin"),
            *("libgrpc-java", "libnetty-java", "libprotobuf-java", "libguava-java", "libperfmark-java"),
            *("libjsr305-java", "libgeronimo-annotation-1.3-spec-java", "libgoogle-gson-java", "junit4"),
            "libnetty-tcnative-java",
        ),
        install=(("./build.sh",),),
        checks=(
            (
                *("java", "-Djava.library.path=build/native", "org.junit.runner.JUnitCore"),
                *("idefics2.client.ClientTest", "idefics2.client.ConnectionTest"),
            ),
        ),
        program=("java", "Ask"),
        microservice=("java", "Microservice"),
        source=ROOT / "clients/java/examples/Ask.java",
        readme=ROOT / "clients/java/README.md",
        variables={
            "CLASSPATH": os.pathsep.join(
                ("build/classes", "build/test", *(f"/usr/share/java/{jar}.jar" for jar in _JARS))
            )
        },
    ),
    Language(
        name="ruby",
        folder=ROOT / "clients/ruby",
        wire_code="clients/ruby/lib/idefics2/v1",
        debian=(
            *("ruby", "ruby-grpc", "ruby-google-protobuf", "ruby-googleapis-common-protos-types"),
            *("ruby-minitest", "protobuf-compiler", "protobuf-compiler-grpc"),
        ),
        checks=(("ruby", "-Ilib", "test/client_test.rb"), ("sh", "-euc", _GEM_CHECK)),
        program=("ruby", "-Ilib", "examples/ask.rb"),
        pack=(
            *("sh", "-c"),
            "gem build *.gemspec --output {folder}/gem && tar -xOf {folder}/gem data.tar.gz | tar -tz",
        ),
        packed=("lib/idefics2.rb", "lib/idefics2/client.rb", "lib/idefics2/v1/files_pb.rb", "README.md"),
        source=ROOT / "clients/ruby/examples/ask.rb",
        readme=ROOT / "clients/ruby/README.md",
    ),
)


def find_selected() -> list[Language]:
    """Return those of CLIENT_LANGUAGES: names with commas between, or `all`. Default: Python alone."""
    chosen = os.environ.get("CLIENT_LANGUAGES", "python").split(",")
    unknown = set(chosen) - {"all", *(language.name for language in LANGUAGES)}
    assert not unknown, f"CLIENT_LANGUAGES names {unknown}"
    return [language for language in LANGUAGES if "all" in chosen or language.name in chosen]
