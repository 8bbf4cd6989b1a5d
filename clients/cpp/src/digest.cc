#include "digest.h"

#include <array>
#include <stdexcept>

namespace idefics2::internal {
namespace {

void check(int is_done) {
  if (is_done != 1) throw std::runtime_error("OpenSSL has no SHA-256");
}

}  // namespace

Digest::Digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  check(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Digest::add(std::string_view bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }

std::string Digest::write() {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<unsigned char, 32> digest{};
  check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  std::string text;
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

}  // namespace idefics2::internal
