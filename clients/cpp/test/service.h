#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "idefics2/client.h"
#include "idefics2/v1/files.grpc.pb.h"
#include "idefics2/v1/generation.grpc.pb.h"
#include "idefics2/v1/requests.grpc.pb.h"

namespace fakes {

/// An error as the service writes it.
grpc::Status refuse(grpc::StatusCode code, const std::string& reason, const std::string& field = "",
                    std::chrono::milliseconds retry_after = {});

idefics2::Event text(std::int64_t sequence, const std::string& text);

/// Refuses, or tells a piece of an answer and no more until it is cancelled.
class Generation : public idefics2::v1::GenerationService::Service {
 public:
  grpc::Status refusal;                                           // OK: it answers
  std::vector<std::multimap<std::string, std::string>> metadata;  // of each call
  idefics2::v1::GenerateRequest asked;                            // last, by Generate
  std::promise<void> cancelled;

  grpc::Status Generate(grpc::ServerContext* context, const idefics2::v1::GenerateRequest* request,
                        idefics2::v1::GenerateResponse* response) override;
  grpc::Status GenerateStream(grpc::ServerContext* context, const idefics2::v1::GenerateRequest* request,
                              grpc::ServerWriter<idefics2::v1::Event>* events) override;
  grpc::Status CountTokens(grpc::ServerContext* context, const idefics2::v1::GenerateRequest* request,
                           idefics2::v1::CountTokensResponse* response) override;

 private:
  void note(const grpc::ServerContext& context);
};

/// Takes requests, and tells a piece of their answer and no more until nobody watches.
class Requests : public idefics2::v1::RequestService::Service {
 public:
  std::promise<std::string> cancelled;  // the request's name
  std::promise<void> left;

  grpc::Status Submit(grpc::ServerContext* context, const idefics2::v1::SubmitRequest* request,
                      idefics2::v1::Request* response) override;
  grpc::Status WatchRequest(grpc::ServerContext* context, const idefics2::v1::WatchRequestRequest* request,
                            grpc::ServerWriter<idefics2::v1::Event>* events) override;
  grpc::Status CancelRequest(grpc::ServerContext* context, const idefics2::v1::CancelRequestRequest* request,
                             idefics2::v1::Request* response) override;
};

/// Loses the first upload after its first bytes, and takes the second. Gives the file that it was told of.
class Files : public idefics2::v1::FileService::Service {
 public:
  std::string received;
  std::string name;
  int num_uploads = 0;
  std::string content;
  std::string sha256;

  grpc::Status GetFile(grpc::ServerContext* context, const idefics2::v1::GetFileRequest* request,
                       idefics2::v1::File* response) override;
  grpc::Status GetUpload(grpc::ServerContext* context, const idefics2::v1::GetUploadRequest* request,
                         idefics2::v1::GetUploadResponse* response) override;
  grpc::Status Upload(grpc::ServerContext* context, grpc::ServerReader<idefics2::v1::UploadRequest>* messages,
                      idefics2::v1::File* response) override;
  grpc::Status DownloadFile(grpc::ServerContext* context, const idefics2::v1::DownloadFileRequest* request,
                            grpc::ServerWriter<idefics2::v1::DownloadFileResponse>* parts) override;
};

/// All of it, at an address.
class Service {
 public:
  explicit Service(std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials());
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }
  /// What a client needs to call it, and to try again at once.
  idefics2::Options options() const;

  Generation generation;
  Requests requests;
  Files files;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace fakes
