#!/bin/sh
# Compiles all into build/, against the jars of CLASSPATH; nothing where nothing changed.
set -eu
stamp=build/.compiled
describer=../examples/describer.proto
if [ -e "$stamp" ] && [ -z "$(find build.sh src examples "$describer" -newer "$stamp" -print -quit)" ]; then
  exit 0
fi
rm -rf build
mkdir -p build/classes build/test build/native build/describer
find src/main/java/idefics2/v1 -name '*.java' >build/wire.txt
find src/main/java/idefics2/client -name '*.java' >build/client.txt
find src/test/java examples -name '*.java' >build/test.txt
lint='-Xlint:all,-processing,-try,-path -Xdoclint:all,-missing -Werror'
javac --release 17 -nowarn -Xlint:none -d build/classes @build/wire.txt
# shellcheck disable=SC2086  # several words
javac --release 17 $lint -d build/classes @build/client.txt
protoc --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" -I "$(dirname "$describer")" \
  --java_out=build/describer --grpc-java_out=build/describer "$describer"
find build/describer -name '*.java' >build/describer.txt
javac --release 17 -nowarn -Xlint:none -d build/test @build/describer.txt
# shellcheck disable=SC2086
javac --release 17 $lint -d build/test @build/test.txt
# Debian's netty has TLS by OpenSSL alone, and looks for it by another name than Debian's.
cp "/usr/lib/$(uname -m)-linux-gnu/jni/libnetty-tcnative.so" build/native/libnetty_tcnative.so
touch "$stamp"
