#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>
#include <string_view>

namespace idefics2::internal {

/// The SHA-256 of what is added.
class Digest {
 public:
  Digest();

  void add(std::string_view bytes);
  /// As 64 hexadecimal digits; nothing may be added any more.
  std::string write();

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace idefics2::internal
