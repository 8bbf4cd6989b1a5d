#include "http_port.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <system_error>

namespace fakes {
namespace {

constexpr char kAnswer[] = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Stream = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

int check(int result) {
  if (result < 0) throw std::system_error(errno, std::generic_category());
  return result;
}

int listen_anywhere() {
  std::signal(SIGPIPE, SIG_IGN);  // callers may be gone before they are answered
  const int port = check(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(bind(port, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  check(listen(port, 8));
  return port;
}

Memory open(const std::string& text) {
  return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free);
}

SSL_CTX* show(const Certificate& certificate) {
  SSL_CTX* tls = SSL_CTX_new(TLS_server_method());
  X509* shown = PEM_read_bio_X509(open(certificate.certificate).get(), nullptr, nullptr, nullptr);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(open(certificate.key).get(), nullptr, nullptr, nullptr);
  SSL_CTX_use_certificate(tls, shown);
  SSL_CTX_use_PrivateKey(tls, key);
  X509_free(shown);
  EVP_PKEY_free(key);
  return tls;
}

}  // namespace

HttpPort::HttpPort() : port_(listen_anywhere()), thread_(&HttpPort::answer_all, this) {}

HttpPort::HttpPort(const Certificate& certificate)
    : tls_(show(certificate), SSL_CTX_free), port_(listen_anywhere()), thread_(&HttpPort::answer_all, this) {}

HttpPort::~HttpPort() {
  shutdown(port_, SHUT_RDWR);  // ends the waiting for a connection
  thread_.join();
  BIO_closesocket(port_);
}

std::string HttpPort::target() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  check(getsockname(port_, reinterpret_cast<sockaddr*>(&address), &size));
  return "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

void HttpPort::answer_all() const {
  for (;;) {
    const int connection = accept(port_, nullptr, nullptr);
    if (connection < 0) return;
    answer(connection);
  }
}

void HttpPort::answer(int connection) const {
  Stream stream(BIO_new_socket(connection, BIO_CLOSE), BIO_free_all);
  if (tls_) stream.reset(BIO_push(BIO_new_ssl(tls_.get(), 0), stream.release()));
  std::array<char, 4096> bytes;
  const auto read = [&] { return BIO_read(stream.get(), bytes.data(), static_cast<int>(bytes.size())); };
  if (read() <= 0) return;
  BIO_write(stream.get(), kAnswer, sizeof kAnswer - 1);
  while (read() > 0) continue;  // else the answer might be lost with what was not read
}

}  // namespace fakes
