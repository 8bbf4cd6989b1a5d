#include "certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <fstream>
#include <memory>
#include <stdexcept>

namespace fakes {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using X509Pointer = std::unique_ptr<X509, decltype(&X509_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;

std::string read(const Memory& memory) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

void add_address(X509& certificate, const std::string& address) {
  const std::string value = "IP:" + address;
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, value.c_str());
  if (extension == nullptr) throw std::invalid_argument(address);
  X509_add_ext(&certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509Pointer sign(EVP_PKEY& key, const std::string& address) {
  X509Pointer certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), &key);
  X509_NAME* name = X509_get_subject_name(certificate.get());
  const auto* common = reinterpret_cast<const unsigned char*>(address.c_str());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  add_address(*certificate, address);
  X509_sign(certificate.get(), &key, EVP_sha256());
  return certificate;
}

}  // namespace

Certificate Certificate::make(const std::string& address) {
  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const X509Pointer certificate = sign(*key, address);
  const Memory written(BIO_new(BIO_s_mem()), BIO_free);
  const Memory written_key(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_X509(written.get(), certificate.get());
  PEM_write_bio_PrivateKey(written_key.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {read(written), read(written_key)};
}

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "idefics2-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder " + name);
  path_ = name;
}

Folder::~Folder() { std::filesystem::remove_all(path_); }

std::filesystem::path Folder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
  return path_ / name;
}

}  // namespace fakes
