# frozen_string_literal: true

# What is promised of this client, which does not make the calls of the contract vectors.
require 'google/rpc/status_pb'
require 'minitest/autorun'
require 'pathname'
require 'socket'
require 'tempfile'
require 'idefics2'

# Answers as a test says.
class Generation < Idefics2::V1::GenerationService::Service
  attr_accessor :answer, :asked, :metadata, :request_id
  attr_reader :num_calls

  def generate(request, call)
    @num_calls = num_calls.to_i + 1
    @asked = request
    @metadata = call.metadata
    call.merge_metadata_to_send('x-request-id' => request_id) if request_id
    answer.call
  end

  alias count_tokens generate
  alias generate_stream generate
end

class ClientTest < Minitest::Test
  include Idefics2

  def setup
    @service = Generation.new
    @servers = {}
    @client = Client.new(serve('127.0.0.1:0'), key: 'local.key')
  end

  def teardown
    @servers.each do |server, thread|
      server.stop
      thread.join
    end
  end

  def serve(address)
    limits = { 'grpc.max_receive_message_length' => 28 * 2**20 }
    server = GRPC::RpcServer.new(pool_size: 2, poll_period: 0.1, server_args: limits)
    port = server.add_http2_port(address, :this_port_is_insecure)
    server.handle(@service)
    @servers[server] = Thread.new { server.run }
    server.wait_till_running
    "127.0.0.1:#{port}"
  end

  def refuse(code, reason, *details)
    info = Google::Rpc::ErrorInfo.new(domain: 'idefics2', reason: reason, metadata: { 'a' => 'b' })
    packed = [info, *details].map { |detail| Google::Protobuf::Any.pack(detail) }
    status = Google::Rpc::Status.new(code: code, message: 'wé', details: packed)
    trailers = { 'grpc-status-details-bin' => Google::Rpc::Status.encode(status), 'x-request-id' => 'behind' }
    raise GRPC::BadStatus.new(code, 'wé', trailers)
  end

  def test_a_question_gets_its_answer_and_what_is_left_out_stays_unset
    @service.answer = -> { V1::GenerateResponse.new(output: 'A cat.') }
    answer = @client.generate(image: 'https://example.com/cat.png', prompt: 'What?', temperature: 0.0)
    assert_equal 'A cat.', answer.output
    assert_equal 'https://example.com/cat.png', @service.asked.image_url
    assert @service.asked.has_temperature?
    refute @service.asked.has_top_p?
    assert_equal 'Key local.key', @service.metadata['authorization']
  end

  def test_a_path_is_read
    @service.answer = -> { V1::GenerateResponse.new }
    @client.generate(image: __FILE__, prompt: 'What?')
    assert_equal File.binread(__FILE__), @service.asked.images.first.data
    @client.generate(image: Pathname.new(__FILE__), prompt: 'What?')
    assert_equal File.binread(__FILE__), @service.asked.images.first.data
    ['nowhere.png', "nowhere\xff.png"].each do |path|
      assert_raises(Errno::ENOENT) { @client.generate(image: path, prompt: 'What?') }
    end
  end

  def test_a_file_that_is_too_large_is_refused_before_it_is_read
    Tempfile.create do |file|
      file.truncate(2**40) # of which the disk holds nothing
      error = assert_raises(Error) { @client.generate(image: file.path, prompt: 'What?') }
      assert_equal %w[INVALID_ARGUMENT FILE_TOO_LARGE], [error.code, error.reason]
    end
  end

  def test_images_that_are_too_large_together_are_refused_as_such_and_what_fits_is_sent
    @service.answer = -> { V1::GenerateResponse.new }
    half = V1::Image.new(data: "\0" * 14_640_000)
    @client.generate(images: [half, half], prompt: 'What?')
    assert_equal 2, @service.asked.images.size
    uri = "data:image/bmp;base64,#{'A' * 14_700_000}"
    [{ images: [half, half, V1::Image.new(data: "\0" * 20_000)] }, { image: uri, images: [half] }].each do |question|
      error = assert_raises(Error) { @client.submit(prompt: 'What?', **question) }
      assert_equal %w[INVALID_ARGUMENT PAYLOAD_TOO_LARGE images], [error.code, error.reason, error.field]
    end
  end

  def test_a_text_of_bytes_is_read_as_utf8_and_one_of_another_encoding_is_written_in_it
    @service.answer = -> { V1::GenerateResponse.new }
    ['café', 'café'.b, 'café'.dup.force_encoding('US-ASCII'), 'café'.encode('UTF-16LE')].each do |text|
      @client.generate(prompt: text, stop: [text], image: 'https://é'.b)
      asked = @service.asked
      assert_equal ['café', ['café'], 'https://é'], [asked.prompt, asked.stop.to_a, asked.image_url]
    end
  end

  def test_a_text_that_is_not_unicode_names_its_field
    ["\xff", "\xff".b, "\xff".dup.force_encoding('US-ASCII'), "\xd8".dup.force_encoding('UTF-16LE')].each do |text|
      {
        'prompt' => -> { @client.generate(prompt: text) },
        'stop' => -> { @client.stream(prompt: 'What?', stop: ['a', text]) { flunk } },
        'images.url' => -> { @client.count_tokens(images: [{ url: text }]) },
        'webhook_url' => -> { @client.submit({ webhook_url: text }, prompt: 'What?') },
        'request_id' => -> { @client.watch(text) { flunk } }
      }.each do |field, ask|
        error = assert_raises(Error, &ask)
        assert_equal ['INVALID_ARGUMENT', 'TEXT_NOT_UNICODE', field], [error.code, error.reason, error.field]
      end
    end
    error = assert_raises(Error) { @client.generate(prompt: 'What?', image: "https://\xff") }
    assert_equal %w[TEXT_NOT_UNICODE image_url], [error.reason, error.field]
  end

  def test_a_number_that_the_wire_cannot_hold_is_told_with_its_bound_as_the_service_tells_it
    int32 = '-2147483648 to 2147483647'
    int64 = '-9223372036854775808 to 9223372036854775807'
    {
      ['max_new_tokens', int32, 2**40] => -> { @client.generate(prompt: 'What?', max_new_tokens: 2**40) },
      ['top_k', int32, Float::INFINITY] => -> { @client.generate(prompt: 'What?', top_k: Float::INFINITY) },
      ['top_k', 'a whole number', 2.5] => -> { @client.generate(prompt: 'What?', top_k: 2.5) },
      ['seed', '0 to 18446744073709551615', -1] => -> { @client.count_tokens(prompt: 'What?', seed: -1) },
      ['max_queue_length', int32, 2**31] => -> { @client.submit({ max_queue_length: 2**31 }, prompt: 'What?') },
      ['time_budget', int64, 1e300] => -> { @client.submit({ time_budget: 1e300 }, prompt: 'What?') },
      ['after', int64, 2**70] => -> { @client.watch('r-1', after: 2**70) { flunk } }
    }.each do |(field, bound, value), ask|
      error = assert_raises(Error, &ask)
      assert_equal ['INVALID_ARGUMENT', 'VALUE_OUT_OF_RANGE', field], [error.code, error.reason, error.field]
      assert_equal "#{field} must be #{bound}, not #{value}", error.message
      assert_equal({ 'field' => field, 'bound' => bound, 'value' => value.to_s }, error.metadata)
    end
  end

  def test_numbers_that_the_wire_holds_are_sent
    @service.answer = -> { V1::GenerateResponse.new }
    @client.generate(prompt: 'What?', max_new_tokens: (2**31) - 1, top_k: 2.0, seed: (2**64) - 1, temperature: 0.5)
    asked = @service.asked
    assert_equal [(2**31) - 1, 2, (2**64) - 1, 0.5], [asked.max_new_tokens, asked.top_k, asked.seed, asked.temperature]
  end

  def test_an_error_says_its_code_its_reason_and_its_field
    field = Google::Rpc::BadRequest::FieldViolation.new(field: 'prompt')
    retry_info = Google::Rpc::RetryInfo.new(retry_delay: Google::Protobuf::Duration.new(seconds: 1, nanos: 500_000_000))
    @service.answer = -> { refuse(8, 'QUEUE_FULL', Google::Rpc::BadRequest.new(field_violations: [field]), retry_info) }
    error = assert_raises(Error) { @client.generate(prompt: 'What?') }
    told = [error.message, error.code, error.reason, error.field, error.retry_after]
    assert_equal ['wé', 'RESOURCE_EXHAUSTED', 'QUEUE_FULL', 'prompt', 1.5], told
    assert_equal [{ 'a' => 'b' }, 'behind'], [error.metadata, error.request_id]
    assert_kind_of GRPC::ResourceExhausted, error.cause
  end

  def test_a_wrong_key_is_told_as_such
    @service.answer = -> { refuse(16, 'API_KEY_INVALID') }
    assert_equal 'API_KEY_INVALID', assert_raises(Error) { @client.generate(prompt: 'What?') }.reason
  end

  def test_a_key_of_the_hosted_endpoints_form_is_sent_as_the_services_own
    { 'a:1' => 'Key a.1', "a.1\n" => 'Key a.1', 'a:b:c' => 'Key a:b:c' }.each do |key, sent|
      assert_equal sent, Client.new('host', key: key).metadata['authorization']
    end
  end

  def test_a_key_that_no_header_can_hold_is_refused_and_not_shown
    ["sec\nret", 'sécret', "sec\xffret", "secret\xff", "\xffsecret", "sec\x7fret"].each do |key|
      error = assert_raises(Error) { Client.new('host', key: key) }
      assert_equal %w[UNAUTHENTICATED API_KEY_INVALID], [error.code, error.reason]
      refute_includes error.message, 'ret'
    end
  end

  def test_a_target_that_grpc_would_take_for_another_one_is_refused_without_being_shown
    ['host:0', '[::1]:65536', 'grpcs://host', 'https://name:secret@host', "secret\xff:1"].each do |target|
      error = assert_raises(Error) { Client.new(target) }
      assert_equal %w[INVALID_ARGUMENT target], [error.code, error.field]
      refute_includes error.message, 'secret'
    end
    ["host:65535\n", '[::1]:1', '::0', 'dns:///host:1', 'unix:/tmp/a'].each do |target|
      assert_equal target.strip, Client.new(target).target
    end
  end

  def test_a_client_is_shown_without_its_key
    shown = [@client.inspect, @client.to_s, assert_raises(NoMethodError) { @client.nowhere }.message].join
    assert_includes shown, @client.target
    refute_includes shown, 'local.key'
  end

  def test_events_come_in_order_and_the_error_last
    @service.request_id = 'before'
    @service.answer = lambda do
      Enumerator.new do |events|
        events << V1::Event.new(text_delta: V1::TextDelta.new(text: 'A '))
        refuse(13, 'INTERNAL_ERROR')
      end
    end
    texts = []
    error = assert_raises(Error) { @client.stream(prompt: 'What?') { |event| texts << event.text_delta.text } }
    assert_equal [['A '], 'INTERNAL_ERROR', 'before'], [texts, error.reason, error.request_id]
  end

  def test_what_a_block_raises_is_its_own
    @service.answer = -> { [V1::Event.new] }
    own = GRPC::NotFound.new('mine')
    raised = assert_raises(GRPC::NotFound) { @client.stream(prompt: 'What?') { |_event| raise own } }
    assert_same own, raised
  end

  def test_leaving_a_block_cancels_the_call
    left = Queue.new
    @service.answer = lambda do
      Enumerator.new do |events|
        loop { events << V1::Event.new(text_delta: V1::TextDelta.new(text: 'A ')) }
      ensure
        left << true
      end
    end
    @client.stream(prompt: 'What?') { |_event| break }
    assert left.pop
  end

  def test_what_only_reads_is_asked_again_where_no_service_was_reached
    losses = [14, 14]
    @service.answer = lambda do
      code = losses.shift
      raise GRPC::BadStatus.new(code, 'cut') if code

      V1::CountTokensResponse.new(num_prompt_tokens: 80)
    end
    assert_equal 80, @client.count_tokens(prompt: 'What?').num_prompt_tokens
  end

  def test_what_only_reads_reaches_a_service_that_comes_up_meanwhile
    @service.answer = -> { V1::CountTokensResponse.new(num_prompt_tokens: 80) }
    early = TCPServer.new('127.0.0.1', 0)
    target = "127.0.0.1:#{early.addr[1]}"
    asked = Thread.new { Client.new(target).count_tokens(prompt: 'What?') }
    early.accept.close # the first dial is for nothing
    early.close
    serve(target)
    assert_equal 80, asked.value.num_prompt_tokens
  end

  def test_nothing_is_asked_a_fourth_time_and_what_writes_not_a_second
    @service.answer = -> { refuse(14, 'STORE_UNAVAILABLE') }
    assert_equal 'STORE_UNAVAILABLE', assert_raises(Error) { @client.count_tokens(prompt: 'What?') }.reason
    assert_equal 3, @service.num_calls
    assert_raises(Error) { @client.generate(prompt: 'What?') }
    assert_equal 4, @service.num_calls
  end

  def test_ctrl_c_ends_a_call_that_waits
    called = Queue.new
    released = Queue.new
    @service.answer = lambda do
      called << true
      released.pop
      V1::GenerateResponse.new
    end
    waiting = Thread.new { @client.generate(prompt: 'What?') }
    waiting.report_on_exception = false
    called.pop
    waiting.raise(Interrupt) # as the main thread is by Ctrl-C
    assert_raises(Interrupt) { waiting.join(10) }
  ensure
    released << true
  end

  def test_a_timeout_is_sent_and_ends_the_call
    released = Queue.new
    @service.answer = lambda do
      released.pop
      V1::GenerateResponse.new
    end
    error = assert_raises(Error) { @client.generate(prompt: 'What?', timeout: 0.2) }
    assert_equal ['DEADLINE_EXCEEDED', ''], [error.code, error.reason]
  ensure
    released << true
  end

  def test_a_timeout_may_be_of_any_length
    @service.answer = -> { V1::GenerateResponse.new(output: 'A cat.') }
    [1e10, 1e300, Float::INFINITY].each do |timeout|
      assert_equal 'A cat.', @client.generate(prompt: 'What?', timeout: timeout).output
    end
  end

  def test_a_service_of_another_version_is_told_by_its_address
    error = assert_raises(Error) { @client.get_request('r-1') }
    assert_equal ['UNIMPLEMENTED', '', {}], [error.code, error.request_id, error.metadata]
    assert_includes error.message, @client.target
  end

  def test_a_service_that_is_away_is_told_by_its_address
    error = assert_raises(Error) { Client.new('127.0.0.1:1').generate(prompt: 'What?') }
    assert_equal ['UNAVAILABLE', ''], [error.code, error.request_id]
    assert_includes error.message, '127.0.0.1:1'
  end
end
