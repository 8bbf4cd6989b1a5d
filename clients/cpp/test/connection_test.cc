// What is promised of connections: targets, keys, TLS.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "certificate.h"
#include "http_port.h"
#include "idefics2/client.h"
#include "service.h"

namespace {

using fakes::Certificate;
using fakes::Folder;
using fakes::HttpPort;
using fakes::Service;
using idefics2::Client;
using idefics2::SettingInvalid;

const idefics2::Question kQuestion({idefics2::Image::bytes("x")}, "What?");
const idefics2::CallOptions kBounded = idefics2::CallOptions::within(std::chrono::seconds(30));

idefics2::Options at(const std::string& target) {
  idefics2::Options options;
  options.target = target;
  return options;
}

/// Returns an error of an attempt to connect or to call.
template <class Error>
std::optional<Error> fail(const idefics2::Options& options) {
  try {
    Client(options).generate(kQuestion, kBounded);
    ADD_FAILURE() << "there is an answer";
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
  }
  return std::nullopt;
}

bool holds(const std::optional<SettingInvalid>& error, const std::string& field, const std::string& words) {
  return error && error->field() == field && std::string(error->what()).find(words) != std::string::npos;
}

/// A service with a certificate, which lets in those who show one that `callers` vouch for; empty: all.
std::shared_ptr<grpc::ServerCredentials> secure(const Certificate& own, const std::string& callers = "") {
  grpc::SslServerCredentialsOptions options(callers.empty()
                                                ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = callers;
  options.pem_key_cert_pairs.push_back({own.key, own.certificate});
  return grpc::SslServerCredentials(options);
}

TEST(Targets, AreReadAsPeopleWriteThem) {
  unsetenv("IDEFICS2_CLIENT_TARGET");
  EXPECT_EQ(Client().target(), "127.0.0.1:50051");
  EXPECT_EQ(Client(at("host")).target(), "host:50051");
  EXPECT_EQ(Client(at(" host:1 ")).target(), "host:1");
  EXPECT_EQ(Client(at("grpcs://host")).target(), "host:50051");
  EXPECT_EQ(Client(at("https://host")).target(), "host:443");
  EXPECT_EQ(Client(at("HTTP://[::1]:2/")).target(), "[::1]:2");
  EXPECT_EQ(Client(at(" host:65535\n")).target(), "host:65535");
}

TEST(Targets, OthersAreRefusedWithoutBeingShown) {
  for (const char* target :
       {"https://name:secret@host", "https://host/secret", "a secret", "host:0", "https://host:65536"}) {
    const auto error = fail<SettingInvalid>(at(target));
    EXPECT_TRUE(holds(error, "target", "must be"));
    EXPECT_FALSE(holds(error, "target", "secret"));
  }
  idefics2::Options options = at("grpc://host");
  options.tls.emplace();
  EXPECT_TRUE(holds(fail<SettingInvalid>(options), "tls", "contradict"));
}

TEST(Targets, AServiceThatIsAwayIsToldByItsAddress) {
  const auto error = fail<idefics2::ServiceUnavailable>(at("127.0.0.1:1"));
  ASSERT_TRUE(error);
  EXPECT_EQ(std::string(error->what()).find("no service answers at 127.0.0.1:1"), 0U);
}

TEST(Targets, AServiceOfAnotherVersionIsToldByItsAddress) {
  Service service;
  service.generation.refusal = grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
  const auto error = fail<idefics2::ServiceFailed>(service.options());
  ASSERT_TRUE(error);
  EXPECT_EQ(std::string(error->what()).find(service.target() + " does not know this call"), 0U);
}

TEST(Keys, ComeFromTheOptionsOrTheEnvironment) {
  Service service;
  const auto sent = [&](const char* option, const char* own, const char* fal) {
    setenv("IDEFICS2_API_KEY", own, 1);
    setenv("FAL_KEY", fal, 1);
    idefics2::Options options = at(service.target());
    options.key = option;
    Client(options).generate(kQuestion, kBounded);
    const auto& metadata = service.generation.metadata.back();
    const auto key = metadata.find("authorization");
    return key == metadata.end() ? "" : key->second;
  };
  EXPECT_EQ(sent("a.1", "b.2", "c.3"), "Key a.1");
  EXPECT_EQ(sent("", "b.2", "c.3"), "Key b.2");
  EXPECT_EQ(sent("", "", "c.3\n"), "Key c.3");
  EXPECT_EQ(sent("", "", "c:3"), "Key c.3");
  EXPECT_EQ(sent("", "", ""), "");
}

TEST(Keys, ThatCannotBeSentAreRefusedWithoutBeingShown) {
  idefics2::Options options;
  options.key = "s\u00e9cret";
  const auto error = fail<idefics2::AuthenticationFailed>(options);
  ASSERT_TRUE(error);
  EXPECT_EQ(std::string(error->what()).find("cret"), std::string::npos);
}

TEST(Calls, WhatTheCallerSendsAlongIsSent) {
  Service service;
  idefics2::CallOptions options = kBounded;
  options.metadata.emplace("traceparent", "00-1-2-01");
  Client(service.options()).generate(kQuestion, options);
  EXPECT_EQ(service.generation.metadata.back().find("traceparent")->second, "00-1-2-01");
}

TEST(Calls, WhatIsSentAlongDoesNotSpoilTheKey) {
  Service service;
  idefics2::CallOptions options = kBounded;
  options.metadata.emplace("authorization", "Key mine");
  Client(service.options()).generate(kQuestion, options);
  const auto& sent = service.generation.metadata.back();
  EXPECT_EQ(sent.count("authorization"), 1U);
  EXPECT_EQ(sent.find("authorization")->second, "Key local.key");
}

TEST(Calls, WhatCannotBeSentAlongIsRefusedByItsName) {
  Service service;
  const Client client(service.options());
  for (const auto& [name, value] : std::multimap<std::string, std::string>{
           {"Traceparent", "00"}, {"traceparent", "a secret\n"}, {"", "00"}, {"trace parent", "00"}}) {
    idefics2::CallOptions options = kBounded;
    options.metadata.emplace(name, value);
    try {
      client.stream(kQuestion, options);
      ADD_FAILURE() << name << " was sent";
    } catch (const idefics2::InvalidRequest& error) {
      EXPECT_EQ(error.field(), "metadata");
      EXPECT_EQ(std::string(error.what()).find("the metadata " + name + " cannot be sent"), 0U);
      EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos);
    }
  }
  idefics2::CallOptions options = kBounded;
  options.metadata.emplace("trace-bin", std::string("\0\n", 2));
  EXPECT_EQ(client.generate(kQuestion, options).output(), "A cat.");
}

TEST(Connections, ToAPortThatSpeaksHttpAreToldAsSuch) {
  const HttpPort port;
  for (int tries = 0; tries < 2; ++tries) {
    EXPECT_TRUE(holds(fail<SettingInvalid>(at(port.target())), "target", port.target() + " speaks HTTP, not gRPC"));
  }
}

class TlsConnections : public testing::Test {
 protected:
  idefics2::Options options(const Service& service, const idefics2::Tls& tls) const {
    idefics2::Options options = service.options();
    options.tls = tls;
    return options;
  }

  Folder folder_;
  Certificate own_ = Certificate::make();
  Certificate caller_ = Certificate::make();
  std::filesystem::path authority_ = folder_.write("authority.pem", own_.certificate);
  std::filesystem::path certificate_ = folder_.write("certificate.pem", caller_.certificate);
  std::filesystem::path key_ = folder_.write("key.pem", caller_.key);
};

TEST_F(TlsConnections, AServiceThatAnAuthorityVouchesForIsCalled) {
  const Service service(secure(own_));
  EXPECT_EQ(Client(options(service, {authority_, {}, {}})).generate(kQuestion, kBounded).output(), "A cat.");
}

TEST_F(TlsConnections, AServiceThatNobodyVouchesForIsNot) {
  const Service service(secure(own_));
  EXPECT_TRUE(holds(fail<SettingInvalid>(options(service, {})), "tls", "nobody vouches for"));
}

TEST_F(TlsConnections, AServiceWithACertificateOfAnotherNameIsNot) {
  const Certificate other = Certificate::make("127.0.0.2");
  const Service service(secure(other));
  const auto authority = folder_.write("other.pem", other.certificate);
  EXPECT_TRUE(holds(fail<SettingInvalid>(options(service, {authority, {}, {}})), "tls", "another name"));
}

TEST_F(TlsConnections, AServiceWithoutTlsIsToldAsSuch) {
  const Service service;
  EXPECT_TRUE(holds(fail<SettingInvalid>(options(service, {authority_, {}, {}})), "tls", "does not speak TLS"));
}

TEST_F(TlsConnections, APortThatSpeaksHttpByTlsIsToldAsSuch) {
  const HttpPort port(own_);
  idefics2::Options options = at(port.target());
  options.tls = {authority_, {}, {}};
  EXPECT_TRUE(holds(fail<SettingInvalid>(options), "target", port.target() + " speaks HTTP, not gRPC"));
}

TEST_F(TlsConnections, AServiceThatWantsTlsIsToldAsSuch) {
  const Service service(secure(own_));
  const auto error = fail<idefics2::ServiceUnavailable>(service.options());
  ASSERT_TRUE(error);
  EXPECT_NE(std::string(error->what()).find("look whether both sides speak TLS"), std::string::npos);
}

TEST_F(TlsConnections, WhoShowsACertificateIsLetInWhereOneIsWanted) {
  const Service service(secure(own_, caller_.certificate));
  const Client client(options(service, {authority_, certificate_, key_}));
  EXPECT_EQ(client.generate(kQuestion, kBounded).output(), "A cat.");
  EXPECT_TRUE(fail<idefics2::ServiceUnavailable>(options(service, {authority_, {}, {}})));
}

TEST_F(TlsConnections, FilesThatCannotBeUsedAreRefusedByTheirNames) {
  const auto refused = [&](const idefics2::Tls& tls) {
    idefics2::Options options;
    options.tls = tls;
    return fail<SettingInvalid>(options);
  };
  const auto text = folder_.write("text.pem", "no certificate");
  const auto other_key = folder_.write("other-key.pem", own_.key);
  EXPECT_TRUE(holds(refused({"nowhere.pem", {}, {}}), "ca_file", "nowhere.pem"));
  EXPECT_TRUE(holds(refused({text, {}, {}}), "ca_file", "text.pem"));
  EXPECT_TRUE(holds(refused({authority_, certificate_, {}}), "key_file", "belong together"));
  EXPECT_TRUE(holds(refused({authority_, text, key_}), "certificate_file", "text.pem"));
  EXPECT_TRUE(holds(refused({authority_, certificate_, other_key}), "key_file", "other-key.pem"));
}

}  // namespace
