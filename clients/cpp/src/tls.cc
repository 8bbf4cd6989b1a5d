#include <openssl/pem.h>
#include <openssl/x509.h>

#include "content.h"
#include "endpoint.h"

namespace idefics2::internal {
namespace {

/// A hundred times what all authorities have that systems trust.
constexpr std::size_t kMaxPemBytes = 16 << 20;

using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

[[noreturn]] void refuse(const std::string& field, const std::string& message) {
  throw SettingInvalid(field + ": " + message, {grpc::StatusCode::INVALID_ARGUMENT, "", field, "", {}, {}});
}

std::string read(const std::string& field, const std::filesystem::path& path) {
  if (path.empty()) return "";
  try {
    return read_file(path, kMaxPemBytes);
  } catch (const FileUnreadable& error) {
    refuse(field, error.what());
  }
}

Memory open(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free}; }

/// Never asks a person for a password.
int refuse_password(char*, int, int, void*) { return 0; }

Certificate read_certificate(const std::string& text) {
  const Memory memory = open(text);
  return {PEM_read_bio_X509(memory.get(), nullptr, refuse_password, nullptr), X509_free};
}

Key read_key(const std::string& text) {
  const Memory memory = open(text);
  return {PEM_read_bio_PrivateKey(memory.get(), nullptr, refuse_password, nullptr), EVP_PKEY_free};
}

void check_pair(const Tls& tls, const std::string& certificate_text, const std::string& key_text) {
  if (tls.certificate_file.empty() != tls.key_file.empty()) {
    refuse(tls.key_file.empty() ? "key_file" : "certificate_file", "a certificate and its key belong together");
  }
  if (tls.key_file.empty()) return;
  const Certificate certificate = read_certificate(certificate_text);
  const Key key = read_key(key_text);
  if (!certificate) refuse("certificate_file", tls.certificate_file.string() + " holds no certificate in PEM");
  if (!key || X509_check_private_key(certificate.get(), key.get()) != 1) {
    refuse("key_file", tls.key_file.string() + " is not the key, in PEM without password, of the certificate " +
                           tls.certificate_file.string());
  }
}

}  // namespace

std::shared_ptr<grpc::ChannelCredentials> read_credentials(const Tls& tls) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = read("ca_file", tls.ca_file);
  options.pem_cert_chain = read("certificate_file", tls.certificate_file);
  options.pem_private_key = read("key_file", tls.key_file);
  if (!tls.ca_file.empty() && !read_certificate(options.pem_root_certs)) {
    refuse("ca_file", tls.ca_file.string() + " holds no certificate in PEM");
  }
  check_pair(tls, options.pem_cert_chain, options.pem_private_key);
  return grpc::SslCredentials(options);
}

}  // namespace idefics2::internal
