#include "service.h"

#include <google/protobuf/util/time_util.h>
#include <grpcpp/server_builder.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace fakes {
namespace v1 = idefics2::v1;
using grpc::ServerContext;
using grpc::Status;

Status refuse(grpc::StatusCode code, const std::string& reason, const std::string& field,
              std::chrono::milliseconds retry_after) {
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  info.set_domain("idefics2");
  info.set_reason(reason);
  (*info.mutable_metadata())["a"] = "b";
  status.add_details()->PackFrom(info);
  if (!field.empty()) {
    google::rpc::BadRequest bad_request;
    bad_request.add_field_violations()->set_field(field);
    status.add_details()->PackFrom(bad_request);
  }
  if (retry_after.count() > 0) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = google::protobuf::util::TimeUtil::MillisecondsToDuration(retry_after.count());
    status.add_details()->PackFrom(retry);
  }
  return {code, "why", status.SerializeAsString()};
}

idefics2::Event text(std::int64_t sequence, const std::string& text) {
  idefics2::Event event;
  event.set_sequence(sequence);
  event.mutable_text_delta()->set_text(text);
  return event;
}

namespace {

/// Writes until nobody reads any more.
void write_until_cancelled(grpc::ServerWriter<v1::Event>& events) {
  std::int64_t sequence = 1;
  while (events.Write(text(sequence++, "A"))) {
  }
}

}  // namespace

void Generation::note(const ServerContext& context) {
  auto& call = metadata.emplace_back();
  for (const auto& [name, value] : context.client_metadata()) {
    call.emplace(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
  }
}

Status Generation::Generate(ServerContext* context, const v1::GenerateRequest* request,
                            v1::GenerateResponse* response) {
  asked = *request;
  note(*context);
  context->AddTrailingMetadata("x-request-id", "r-1");
  response->set_output("A cat.");
  return refusal;
}

Status Generation::GenerateStream(ServerContext*, const v1::GenerateRequest*, grpc::ServerWriter<v1::Event>* events) {
  write_until_cancelled(*events);
  cancelled.set_value();
  return Status::CANCELLED;
}

Status Generation::CountTokens(ServerContext* context, const v1::GenerateRequest*, v1::CountTokensResponse*) {
  note(*context);
  return refusal;
}

Status Requests::Submit(ServerContext*, const v1::SubmitRequest* request, v1::Request* response) {
  response->set_request_id(request->request_id());
  return Status::OK;
}

Status Requests::WatchRequest(ServerContext*, const v1::WatchRequestRequest*, grpc::ServerWriter<v1::Event>* events) {
  write_until_cancelled(*events);
  left.set_value();
  return Status::CANCELLED;
}

Status Requests::CancelRequest(ServerContext*, const v1::CancelRequestRequest* request, v1::Request*) {
  cancelled.set_value(request->request_id());
  return Status::OK;
}

Status Files::GetFile(ServerContext*, const v1::GetFileRequest*, v1::File*) {
  return refuse(grpc::StatusCode::NOT_FOUND, "FILE_NOT_UPLOADED");
}

Status Files::GetUpload(ServerContext*, const v1::GetUploadRequest*, v1::GetUploadResponse*) {
  return refuse(grpc::StatusCode::NOT_FOUND, "UPLOAD_NOT_FOUND");
}

Status Files::Upload(ServerContext*, grpc::ServerReader<v1::UploadRequest>* messages, v1::File* response) {
  ++num_uploads;
  received.clear();
  v1::UploadRequest message;
  while (messages->Read(&message)) {
    if (message.has_start()) name = message.start().name();
    received += message.chunk();
    if (num_uploads == 1 && !received.empty()) return {grpc::StatusCode::UNAVAILABLE, "cut"};
  }
  response->set_id("f");
  return Status::OK;
}

Status Files::DownloadFile(ServerContext*, const v1::DownloadFileRequest*,
                           grpc::ServerWriter<v1::DownloadFileResponse>* parts) {
  v1::DownloadFileResponse part;
  part.mutable_file()->set_sha256(sha256);
  parts->Write(part);
  part.set_chunk(content);
  parts->Write(part);
  return Status::OK;
}

Service::Service(std::shared_ptr<grpc::ServerCredentials> credentials) {
  server_ = grpc::ServerBuilder()
                .SetMaxReceiveMessageSize(28 << 20)
                .AddListeningPort("127.0.0.1:0", std::move(credentials), &port_)
                .RegisterService(&generation)
                .RegisterService(&requests)
                .RegisterService(&files)
                .BuildAndStart();
}

Service::~Service() { server_->Shutdown(); }

idefics2::Options Service::options() const {
  idefics2::Options options;
  options.target = target();
  options.key = "local.key";
  options.retries.first_pause = std::chrono::milliseconds(1);
  return options;
}

}  // namespace fakes
