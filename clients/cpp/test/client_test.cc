// What is promised of this client beyond the contract vectors: classes of errors, ways to leave, sources of bytes.
#include "idefics2/client.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <future>
#include <set>
#include <sstream>
#include <thread>
#include <type_traits>

#include "service.h"

namespace {

using fakes::refuse;
using fakes::Service;
using idefics2::CallOptions;
using idefics2::Client;

const idefics2::Question kQuestion({idefics2::Image::bytes("x")}, "What?");

static_assert(std::is_move_constructible_v<Client> && std::is_move_assignable_v<Client>);
static_assert(std::is_move_constructible_v<idefics2::Stream<idefics2::Event>>);
static_assert(!std::is_copy_constructible_v<idefics2::Stream<idefics2::Event>>);
static_assert(std::is_nothrow_copy_constructible_v<idefics2::FileUnreadable>);

/// Returns the error that a call ends by, and fails where it is of another class.
template <class Error, class Call>
std::optional<Error> expect(const Call& call) {
  try {
    call();
    ADD_FAILURE() << "there is an answer";
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
  }
  return std::nullopt;
}

CallOptions cancellable() {
  CallOptions options;
  options.cancellation.emplace();
  return options;
}

TEST(Errors, AWrongKeyIsToldByItsClassAndReason) {
  Service service;
  service.generation.refusal = refuse(grpc::StatusCode::UNAUTHENTICATED, "API_KEY_INVALID");
  const Client client(service.options());
  const auto error = expect<idefics2::AuthenticationFailed>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_TRUE(error->is(idefics2::v1::API_KEY_INVALID));
  EXPECT_FALSE(error->is(idefics2::v1::API_KEY_MISSING));
  EXPECT_STREQ(error->what(), "why");
  EXPECT_EQ(error->request_id(), "r-1");
  EXPECT_EQ(error->metadata().at("a"), "b");
  EXPECT_EQ(service.generation.metadata.front().find("authorization")->second, "Key local.key");
}

TEST(Errors, AServiceThatIsFullSaysWhenToComeBack) {
  Service service;
  const std::chrono::milliseconds pause(250);
  service.generation.refusal = refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "prompt", pause);
  const Client client(service.options());
  const auto error = expect<idefics2::Overloaded>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->retry_after(), pause);
  EXPECT_EQ(error->field(), "prompt");
}

TEST(Errors, AFileThatIsNotThereIsToldByItsNameBeforeAnyCall) {
  idefics2::Options options;
  options.target = "127.0.0.1:1";
  const Client client(options);
  const idefics2::Question question({idefics2::Image::file("nowhere.png")}, "What?");
  for (const auto& error : {expect<idefics2::FileUnreadable>([&] { client.upload("nowhere.png"); }),
                            expect<idefics2::FileUnreadable>([&] { client.generate(question); })}) {
    ASSERT_TRUE(error);
    EXPECT_STREQ(error->what(), "cannot read nowhere.png: there is no such file");
    EXPECT_EQ(error->cause(), std::errc::no_such_file_or_directory);
  }
}

TEST(Errors, AnImageThatIsTooLargeIsRefusedBeforeItIsRead) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-large.png";
  std::ofstream(path, std::ios::binary) << "x";
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40U);  // more than any memory holds, all of it a hole
  const Client client;
  const auto error = expect<idefics2::InvalidRequest>([&] {
    client.generate({{idefics2::Image::file(path)}, "What?"});
  });
  std::filesystem::remove(path);
  ASSERT_TRUE(error);
  EXPECT_TRUE(error->is(idefics2::v1::FILE_TOO_LARGE));
}

TEST(Images, APipeAtAPathIsReadToItsEnd) {
  Service service;
  const auto path = std::filesystem::temp_directory_path() / "idefics2-image-pipe.png";
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto writing = std::async(std::launch::async, [&] { std::ofstream(path, std::ios::binary) << "a picture"; });
  EXPECT_EQ(Client(service.options()).generate({{idefics2::Image::file(path)}, "What?"}).output(), "A cat.");
  writing.get();
  std::filesystem::remove(path);
  EXPECT_EQ(service.generation.asked.images(0).data(), "a picture");
}

TEST(Errors, ImagesThatAreTooLargeTogetherAreRefusedAsSuchAndWhatFitsIsSent) {
  Service service;
  const Client client(service.options());
  const auto image = idefics2::Image::bytes(std::string(14'640'000, 'x'));
  const auto more = idefics2::Image::bytes(std::string(20'000, 'x'));
  const auto uri = idefics2::Image::url("data:image/bmp;base64," + std::string(14'640'000, 'A'));
  EXPECT_EQ(client.generate({{image, image}, "What?"}).output(), "A cat.");
  for (const auto& first : {image, uri}) {
    const auto error = expect<idefics2::InvalidRequest>([&] { client.submit({{{first, image, more}, "What?"}}); });
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->is(idefics2::v1::PAYLOAD_TOO_LARGE));
    EXPECT_EQ(error->field(), "images");
    EXPECT_NE(std::string(error->what()).find("upload"), std::string::npos);
  }
}

TEST(Errors, APauseBeyondAllMeasureIsALongOne) {
  Service service;
  const std::chrono::seconds pause(315'576'000'000);  // the most that protobuf knows
  service.generation.refusal = refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "", pause);
  const Client client(service.options());
  const auto error = expect<idefics2::Overloaded>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_GT(error->retry_after(), std::chrono::hours(24));
}

TEST(Errors, AFolderIsNoFile) {
  const Client client;
  expect<idefics2::FileUnreadable>([&] { client.upload(std::filesystem::temp_directory_path()); });
}

TEST(Errors, TextThatIsNotUnicodeNamesItsField) {
  const Client client;
  idefics2::Question stop({}, "What?");
  stop.stop = {"a", "\xed\xa0\x80"};
  idefics2::Submission webhook(kQuestion);
  webhook.webhook_url = "\xc0\x80";
  const auto field_of = [](const auto& call) {
    const auto error = expect<idefics2::InvalidRequest>(call);
    return error && error->is(idefics2::v1::TEXT_NOT_UNICODE) ? error->field() : "";
  };
  EXPECT_EQ(field_of([&] { client.generate({{}, "\xff"}); }), "prompt");
  EXPECT_EQ(field_of([&] { client.generate(stop); }), "stop");
  EXPECT_EQ(field_of([&] { client.submit(webhook); }), "webhook_url");
  EXPECT_EQ(field_of([&] { client.generate({{idefics2::Image::url("\xe2\x82")}, "What?"}); }), "url");
}

TEST(Retries, WhatOnlyReadsIsAskedThreeTimesAndAllElseOnce) {
  Service service;
  service.generation.refusal = refuse(grpc::StatusCode::UNAVAILABLE, "STORE_UNAVAILABLE");
  idefics2::Options options = service.options();
  std::vector<std::string> losses;
  options.retries.on_lost = [&](const idefics2::Error& error) { losses.push_back(error.reason()); };
  const Client client(options);
  expect<idefics2::ServiceUnavailable>([&] { client.count_tokens(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 3U);
  EXPECT_EQ(losses.size(), 2U);
  expect<idefics2::ServiceUnavailable>([&] { client.generate(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 4U);
}

TEST(Retries, NothingIsAskedAgainBeforeTheTimeThatTheServiceAsksFor) {
  Service service;
  service.generation.refusal =
      refuse(grpc::StatusCode::UNAVAILABLE, "STORE_UNAVAILABLE", "", std::chrono::milliseconds(3'000'000));
  idefics2::Options options = service.options();
  options.retries.max_pause = std::chrono::hours(1);
  options.timeout = std::chrono::milliseconds(300);
  const Client client(options);
  expect<idefics2::DeadlineExceeded>([&] { client.count_tokens(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 1U);
}

TEST(Leaving, ADeadlineThatPassesEndsTheCallAtBothSides) {
  Service service;
  const Client client(service.options());
  auto events = client.stream(kQuestion, CallOptions::within(std::chrono::milliseconds(300)));
  expect<idefics2::DeadlineExceeded>([&] {
    while (events.next()) {
    }
  });
  EXPECT_FALSE(events.next());
  service.generation.cancelled.get_future().wait();
  expect<idefics2::DeadlineExceeded>(
      [&] { client.generate(kQuestion, CallOptions::within(std::chrono::milliseconds(0))); });
}

TEST(Leaving, ADeadlineBeyondAllMeasureIsFarAway) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_GT(CallOptions::within(std::chrono::milliseconds::max()).deadline, now + std::chrono::hours(24));
  const auto passed = CallOptions::within(std::chrono::milliseconds::min()).deadline;
  EXPECT_LE(passed, std::chrono::system_clock::now());
}

TEST(Leaving, ADeadlineIsNotOverAtOnceBecauseItIsFarAway) {
  Service service;
  const Client client(service.options());
  const auto now = std::chrono::system_clock::now();
  CallOptions options;
  for (const auto deadline : {now + std::chrono::hours(24 * 30), now + std::chrono::hours(24 * 365 * 200),
                              std::chrono::system_clock::time_point::max()}) {
    options.deadline = deadline;
    EXPECT_EQ(client.generate(kQuestion, options).output(), "A cat.");
  }
  idefics2::Options bounded = service.options();
  bounded.timeout = std::chrono::milliseconds::max();
  EXPECT_EQ(Client(bounded).generate(kQuestion).output(), "A cat.");
}

TEST(Leaving, AStreamThatGoesOutOfScopeCancelsTheCallAndOutlivesItsClient) {
  Service service;
  auto client = std::make_unique<Client>(service.options());
  {
    auto events = client->stream(kQuestion);
    client.reset();
    auto moved = std::move(events);
    EXPECT_EQ(moved.next()->text_delta().text(), "A");
    events.cancel();  // is another's now
    EXPECT_FALSE(events.next());
  }
  service.generation.cancelled.get_future().wait();
}

TEST(Leaving, AnotherThreadMayCancelAStream) {
  Service service;
  const Client client(service.options());
  auto events = client.stream(kQuestion);
  EXPECT_TRUE(events.next());
  std::thread other([&] { events.cancel(); });
  expect<idefics2::Cancelled>([&] {
    for ([[maybe_unused]] const auto& event : events) {
    }
  });
  other.join();
  service.generation.cancelled.get_future().wait();
}

TEST(Leaving, CtrlCInMidAnswerCancelsTheCall) {
  Service service;
  const Client client(service.options());
  const CallOptions options = cancellable();
  auto events = client.stream(kQuestion, options);
  EXPECT_TRUE(events.next());
  const idefics2::CancelOnSignal interrupt(*options.cancellation);
  std::raise(SIGINT);
  expect<idefics2::Cancelled>([&] {
    while (events.next()) {
    }
  });
  service.generation.cancelled.get_future().wait();
  expect<idefics2::Cancelled>([&] { client.generate(kQuestion, options); });
}

TEST(Leaving, ASignalThatNobodyMayTakeIsRefused) {
  EXPECT_THROW(idefics2::CancelOnSignal({}, SIGKILL), std::system_error);
}

TEST(Leaving, CancellingCancelsTheRequestThatIsWaitedFor) {
  Service service;
  const Client client(service.options());
  const CallOptions options = cancellable();
  idefics2::Submission submission(kQuestion);
  submission.request_id = "mine";
  expect<idefics2::Cancelled>([&] {
    client.submit_and_watch(
        submission, [&](const auto&) { options.cancellation->cancel(); }, options);
  });
  EXPECT_EQ(service.requests.cancelled.get_future().get(), "mine");
}

TEST(Leaving, AnExceptionOfTheCallerGoesThroughAndCancelsTheRequestToo) {
  Service service;
  const Client client(service.options());
  expect<std::domain_error>(
      [&] { client.submit_and_watch(kQuestion, [](const auto&) { throw std::domain_error("mine"); }); });
  EXPECT_NE(service.requests.cancelled.get_future().get(), "");
}

TEST(Leaving, AWatchThatIsLeftLeavesTheRequestAlone) {
  Service service;
  const Client client(service.options());
  EXPECT_EQ(client.watch("mine").next()->sequence(), 1);
  service.requests.left.get_future().wait();
  auto cancelled = service.requests.cancelled.get_future();
  EXPECT_EQ(cancelled.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

/// A stream that cannot seek.
class Pipe : public std::stringbuf {
 public:
  using std::stringbuf::stringbuf;
  pos_type seekoff(off_type, std::ios::seekdir, std::ios::openmode) override { return pos_type(off_type(-1)); }
};

/// Sees, while it is read, what this process holds open of `folder`.
class WatchedPipe : public Pipe {
 public:
  WatchedPipe(const std::string& bytes, std::filesystem::path folder) : Pipe(bytes), folder_(std::move(folder)) {}

  std::set<std::filesystem::perms> seen;

 protected:
  std::streamsize xsgetn(char* bytes, std::streamsize num_bytes) override {
    for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto path = std::filesystem::read_symlink(file, gone).string();
      if (path.rfind(folder_.string() + "/idefics2-", 0) == 0) seen.insert(std::filesystem::status(file).permissions());
    }
    return Pipe::xsgetn(bytes, num_bytes);
  }

 private:
  std::filesystem::path folder_;
};

class Uploads : public testing::Test {
 protected:
  Uploads() {
    while (bytes_.size() < 3'000'000) bytes_ += "BM, and no two pieces alike " + std::to_string(bytes_.size());
  }

  void check(const idefics2::File& file, const std::string& name) const {
    EXPECT_EQ(file.id(), "f");
    EXPECT_EQ(service_.files.num_uploads, 2);
    EXPECT_TRUE(service_.files.received == bytes_);
    EXPECT_EQ(service_.files.name, name);
  }

  std::string bytes_;
  Service service_;
  Client client_{service_.options()};
};

TEST_F(Uploads, AFileIsSentAgainAfterALoss) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-cat.bmp";
  std::ofstream(path, std::ios::binary) << bytes_;
  idefics2::Transfer last{};
  check(client_.upload(path, {"", [&](const auto& transfer) { last = transfer; }}), "idefics2-cat.bmp");
  EXPECT_EQ(last.num_bytes, static_cast<std::int64_t>(bytes_.size()));
  std::filesystem::remove(path);
}

TEST_F(Uploads, APipeAtAPathIsSentWholeAndAgainAfterALoss) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-pipe.bmp";
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto writing = std::async(std::launch::async, [&] { std::ofstream(path, std::ios::binary) << bytes_; });
  check(client_.upload(path), "idefics2-pipe.bmp");
  writing.get();
  std::filesystem::remove(path);
}

TEST_F(Uploads, WhatIsLeftOfAStreamIsSentAgainAfterALoss) {
  std::istringstream source("begun" + bytes_);
  source.seekg(5);
  check(client_.upload(source, {"cat.bmp", {}}), "cat.bmp");
}

TEST_F(Uploads, AStreamThatCannotSeekIsSentAgainAfterALoss) {
  Pipe pipe(bytes_);
  std::istream source(&pipe);
  check(client_.upload(source), "");
}

TEST_F(Uploads, NobodyElseMayReadTheCopyOfAStream) {
  WatchedPipe pipe(bytes_, std::filesystem::temp_directory_path());
  std::istream source(&pipe);
  check(client_.upload(source), "");
  EXPECT_EQ(pipe.seen, std::set{std::filesystem::perms::owner_read | std::filesystem::perms::owner_write});
}

/// A folder that is gone with all that it holds.
struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "idefics2-downloads";

  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directory(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }

  std::string read(const std::string& name) const {
    std::ostringstream content;
    content << std::ifstream(path / name, std::ios::binary).rdbuf();
    return content.str();
  }
  auto count() const {
    return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator());
  }
};

TEST(Downloads, TwoToOnePathAtATimeDisturbNeitherEachOtherNorOtherFiles) {
  Service service;
  service.files.content = "BM, all of it";
  service.files.sha256 = "a788e4828f5270bfbb2ede2ea6f78402a0130fe8052a4a21b4a58d2646248a84";
  const Client client(service.options());
  const Folder folder;
  std::ofstream(folder.path / "cat.bmp.part") << "mine";
  const auto download = [&](const idefics2::OnProgress& on_progress) {
    client.download("f", folder.path / "cat.bmp", on_progress);
  };
  download([&](const auto&) { download({}); });
  EXPECT_EQ(folder.read("cat.bmp"), service.files.content);
  EXPECT_EQ(folder.read("cat.bmp.part"), "mine");
  EXPECT_EQ(folder.count(), 2);
}

TEST(Downloads, OneThatFailsLeavesNoFile) {
  Service service;
  service.files.content = "BM, not all of it";
  const Client client(service.options());
  const Folder folder;
  expect<idefics2::ServiceFailed>([&] { client.download("f", folder.path / "cat.bmp"); });
  EXPECT_EQ(folder.count(), 0);
}

}  // namespace
