#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <thread>

#include "certificate.h"

namespace fakes {

/// A port that answers whatever begins a connection as a server of HTTP/1 does.
class HttpPort {
 public:
  HttpPort();
  /// Speaks TLS, for HTTP/1 alone.
  explicit HttpPort(const Certificate& certificate);
  ~HttpPort();
  HttpPort(const HttpPort&) = delete;
  HttpPort& operator=(const HttpPort&) = delete;

  std::string target() const;

 private:
  void answer_all() const;
  void answer(int connection) const;

  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> tls_{nullptr, SSL_CTX_free};
  int port_;
  std::thread thread_;
};

}  // namespace fakes
