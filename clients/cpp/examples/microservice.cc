// A microservice that describes pictures, called by gRPC: example.Describer/Describe of
// clients/examples/describer.proto.
//
// It passes on what its own caller says of the call: how long it waits, and which trace it belongs to (traceparent and
// tracestate, as W3C has them). When that caller leaves, the model is left, too.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <idefics2/client.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "describer.grpc.pb.h"

namespace {

constexpr std::chrono::minutes kMaxTime(1);
constexpr int kMaxBytes = 20'000'000;

class Describer final : public example::Describer::Service {
  grpc::Status Describe(grpc::ServerContext* caller, const google::protobuf::BytesValue* picture,
                        google::protobuf::StringValue* description) override {
    const idefics2::Question question({idefics2::Image::bytes(picture->value())}, "Describe the image.");
    auto options = idefics2::CallOptions::on_behalf_of(*caller);
    options.deadline = std::min(caller->deadline(), std::chrono::system_clock::now() + kMaxTime);
    try {
      description->set_value(client_.generate(question, options).output());
      return grpc::Status::OK;
    } catch (const idefics2::Error& error) {
      return {error.code(), error.what()};
    }
  }

  const idefics2::Client client_;  // where, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY
};

}  // namespace

int main() try {
  const char* port = std::getenv("PORT");
  int listening = 0;
  Describer describer;
  const auto server = grpc::ServerBuilder()
                          .AddListeningPort(std::string("127.0.0.1:") + (port == nullptr ? "8000" : port),
                                            grpc::InsecureServerCredentials(), &listening)
                          .RegisterService(&describer)
                          .SetMaxReceiveMessageSize(kMaxBytes)
                          .BuildAndStart();
  if (!server) return 1;  // grpc has said why
  std::cout << "listening on grpc://127.0.0.1:" << listening << std::endl;
  server->Wait();
} catch (const idefics2::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
