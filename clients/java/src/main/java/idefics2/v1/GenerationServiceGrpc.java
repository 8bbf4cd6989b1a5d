package idefics2.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Answers questions about images with Idefics2.
 * Authentication: metadata `authorization: Key &lt;id&gt;.&lt;secret&gt;` (or `Bearer &lt;id&gt;.&lt;secret&gt;`) on each call, otherwise
 * UNAUTHENTICATED with API_KEY_*, or PERMISSION_DENIED with FACE_NOT_ALLOWED or APP_NOT_ALLOWED.
 * Errors: `google.rpc.Status` with exactly one `google.rpc.ErrorInfo` (see ErrorReason), and with
 * `google.rpc.BadRequest` that names each field at fault for INVALID_ARGUMENT, `google.rpc.QuotaFailure` that names
 * what is used up for RESOURCE_EXHAUSTED, `google.rpc.RetryInfo` for RESOURCE_EXHAUSTED and UNAVAILABLE.
 * Every call tells `x-request-id`, in its initial metadata together with the first message, or in its trailers where it
 * is refused: the caller's own where it sent one (1 to 128 characters of `A-Z a-z 0-9 . _ -`), otherwise one made by the
 * service.
 * A call that is refused before its first message has no initial metadata, so that the retries of gRPC itself (a
 * `retryPolicy` of the caller's service config) can make it again. `grpc-retry-pushback-ms` says when; below 0: never,
 * since the answer would stay. CountTokens is safe to make again; Generate and GenerateStream change nothing either, but
 * cost the model's time again.
 * A message has at most 28 MiB, room for one image of the largest size as a data URI; a larger one is
 * answered RESOURCE_EXHAUSTED, without details, before it is read.
 * Cancelling a call, or letting its deadline pass, stops the work on the model within one step.
 * </pre>
 */
@javax.annotation.Generated(
    value = "by gRPC proto compiler",
    comments = "Source: idefics2/v1/generation.proto")
@io.grpc.stub.annotations.GrpcGenerated
public final class GenerationServiceGrpc {

  private GenerationServiceGrpc() {}

  public static final String SERVICE_NAME = "idefics2.v1.GenerationService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.GenerateResponse> getGenerateMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Generate",
      requestType = idefics2.v1.Generation.GenerateRequest.class,
      responseType = idefics2.v1.Generation.GenerateResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.GenerateResponse> getGenerateMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.GenerateResponse> getGenerateMethod;
    if ((getGenerateMethod = GenerationServiceGrpc.getGenerateMethod) == null) {
      synchronized (GenerationServiceGrpc.class) {
        if ((getGenerateMethod = GenerationServiceGrpc.getGenerateMethod) == null) {
          GenerationServiceGrpc.getGenerateMethod = getGenerateMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.GenerateResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Generate"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.GenerateRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.GenerateResponse.getDefaultInstance()))
              .setSchemaDescriptor(new GenerationServiceMethodDescriptorSupplier("Generate"))
              .build();
        }
      }
    }
    return getGenerateMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.Event> getGenerateStreamMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GenerateStream",
      requestType = idefics2.v1.Generation.GenerateRequest.class,
      responseType = idefics2.v1.Generation.Event.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.Event> getGenerateStreamMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.Event> getGenerateStreamMethod;
    if ((getGenerateStreamMethod = GenerationServiceGrpc.getGenerateStreamMethod) == null) {
      synchronized (GenerationServiceGrpc.class) {
        if ((getGenerateStreamMethod = GenerationServiceGrpc.getGenerateStreamMethod) == null) {
          GenerationServiceGrpc.getGenerateStreamMethod = getGenerateStreamMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.Event>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GenerateStream"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.GenerateRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.Event.getDefaultInstance()))
              .setSchemaDescriptor(new GenerationServiceMethodDescriptorSupplier("GenerateStream"))
              .build();
        }
      }
    }
    return getGenerateStreamMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.CountTokensResponse> getCountTokensMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CountTokens",
      requestType = idefics2.v1.Generation.GenerateRequest.class,
      responseType = idefics2.v1.Generation.CountTokensResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest,
      idefics2.v1.Generation.CountTokensResponse> getCountTokensMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.CountTokensResponse> getCountTokensMethod;
    if ((getCountTokensMethod = GenerationServiceGrpc.getCountTokensMethod) == null) {
      synchronized (GenerationServiceGrpc.class) {
        if ((getCountTokensMethod = GenerationServiceGrpc.getCountTokensMethod) == null) {
          GenerationServiceGrpc.getCountTokensMethod = getCountTokensMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Generation.GenerateRequest, idefics2.v1.Generation.CountTokensResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CountTokens"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.GenerateRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.CountTokensResponse.getDefaultInstance()))
              .setSchemaDescriptor(new GenerationServiceMethodDescriptorSupplier("CountTokens"))
              .build();
        }
      }
    }
    return getCountTokensMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static GenerationServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<GenerationServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<GenerationServiceStub>() {
        @java.lang.Override
        public GenerationServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new GenerationServiceStub(channel, callOptions);
        }
      };
    return GenerationServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static GenerationServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<GenerationServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<GenerationServiceBlockingStub>() {
        @java.lang.Override
        public GenerationServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new GenerationServiceBlockingStub(channel, callOptions);
        }
      };
    return GenerationServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static GenerationServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<GenerationServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<GenerationServiceFutureStub>() {
        @java.lang.Override
        public GenerationServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new GenerationServiceFutureStub(channel, callOptions);
        }
      };
    return GenerationServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Answers questions about images with Idefics2.
   * Authentication: metadata `authorization: Key &lt;id&gt;.&lt;secret&gt;` (or `Bearer &lt;id&gt;.&lt;secret&gt;`) on each call, otherwise
   * UNAUTHENTICATED with API_KEY_*, or PERMISSION_DENIED with FACE_NOT_ALLOWED or APP_NOT_ALLOWED.
   * Errors: `google.rpc.Status` with exactly one `google.rpc.ErrorInfo` (see ErrorReason), and with
   * `google.rpc.BadRequest` that names each field at fault for INVALID_ARGUMENT, `google.rpc.QuotaFailure` that names
   * what is used up for RESOURCE_EXHAUSTED, `google.rpc.RetryInfo` for RESOURCE_EXHAUSTED and UNAVAILABLE.
   * Every call tells `x-request-id`, in its initial metadata together with the first message, or in its trailers where it
   * is refused: the caller's own where it sent one (1 to 128 characters of `A-Z a-z 0-9 . _ -`), otherwise one made by the
   * service.
   * A call that is refused before its first message has no initial metadata, so that the retries of gRPC itself (a
   * `retryPolicy` of the caller's service config) can make it again. `grpc-retry-pushback-ms` says when; below 0: never,
   * since the answer would stay. CountTokens is safe to make again; Generate and GenerateStream change nothing either, but
   * cost the model's time again.
   * A message has at most 28 MiB, room for one image of the largest size as a data URI; a larger one is
   * answered RESOURCE_EXHAUSTED, without details, before it is read.
   * Cancelling a call, or letting its deadline pass, stops the work on the model within one step.
   * </pre>
   */
  public static abstract class GenerationServiceImplBase implements io.grpc.BindableService {

    /**
     * <pre>
     * Generates one answer and returns it when it is complete.
     * </pre>
     */
    public void generate(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGenerateMethod(), responseObserver);
    }

    /**
     * <pre>
     * Generates one answer and tells of each step on the way. The stream ends after `finished`, or with
     * an error status instead of it.
     * </pre>
     */
    public void generateStream(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGenerateStreamMethod(), responseObserver);
    }

    /**
     * <pre>
     * Counts what a request would cost the model, without running it: images are looked at as far as
     * their headers only. Refuses what Generate would refuse, apart from CONTEXT_EXCEEDED and what only decoding
     * would find: damage, and that it takes too much memory or time.
     * </pre>
     */
    public void countTokens(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.CountTokensResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCountTokensMethod(), responseObserver);
    }

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
          .addMethod(
            getGenerateMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Generation.GenerateRequest,
                idefics2.v1.Generation.GenerateResponse>(
                  this, METHODID_GENERATE)))
          .addMethod(
            getGenerateStreamMethod(),
            io.grpc.stub.ServerCalls.asyncServerStreamingCall(
              new MethodHandlers<
                idefics2.v1.Generation.GenerateRequest,
                idefics2.v1.Generation.Event>(
                  this, METHODID_GENERATE_STREAM)))
          .addMethod(
            getCountTokensMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Generation.GenerateRequest,
                idefics2.v1.Generation.CountTokensResponse>(
                  this, METHODID_COUNT_TOKENS)))
          .build();
    }
  }

  /**
   * <pre>
   * Answers questions about images with Idefics2.
   * Authentication: metadata `authorization: Key &lt;id&gt;.&lt;secret&gt;` (or `Bearer &lt;id&gt;.&lt;secret&gt;`) on each call, otherwise
   * UNAUTHENTICATED with API_KEY_*, or PERMISSION_DENIED with FACE_NOT_ALLOWED or APP_NOT_ALLOWED.
   * Errors: `google.rpc.Status` with exactly one `google.rpc.ErrorInfo` (see ErrorReason), and with
   * `google.rpc.BadRequest` that names each field at fault for INVALID_ARGUMENT, `google.rpc.QuotaFailure` that names
   * what is used up for RESOURCE_EXHAUSTED, `google.rpc.RetryInfo` for RESOURCE_EXHAUSTED and UNAVAILABLE.
   * Every call tells `x-request-id`, in its initial metadata together with the first message, or in its trailers where it
   * is refused: the caller's own where it sent one (1 to 128 characters of `A-Z a-z 0-9 . _ -`), otherwise one made by the
   * service.
   * A call that is refused before its first message has no initial metadata, so that the retries of gRPC itself (a
   * `retryPolicy` of the caller's service config) can make it again. `grpc-retry-pushback-ms` says when; below 0: never,
   * since the answer would stay. CountTokens is safe to make again; Generate and GenerateStream change nothing either, but
   * cost the model's time again.
   * A message has at most 28 MiB, room for one image of the largest size as a data URI; a larger one is
   * answered RESOURCE_EXHAUSTED, without details, before it is read.
   * Cancelling a call, or letting its deadline pass, stops the work on the model within one step.
   * </pre>
   */
  public static final class GenerationServiceStub extends io.grpc.stub.AbstractAsyncStub<GenerationServiceStub> {
    private GenerationServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected GenerationServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new GenerationServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one answer and returns it when it is complete.
     * </pre>
     */
    public void generate(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGenerateMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Generates one answer and tells of each step on the way. The stream ends after `finished`, or with
     * an error status instead of it.
     * </pre>
     */
    public void generateStream(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getGenerateStreamMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Counts what a request would cost the model, without running it: images are looked at as far as
     * their headers only. Refuses what Generate would refuse, apart from CONTEXT_EXCEEDED and what only decoding
     * would find: damage, and that it takes too much memory or time.
     * </pre>
     */
    public void countTokens(idefics2.v1.Generation.GenerateRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.CountTokensResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCountTokensMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * <pre>
   * Answers questions about images with Idefics2.
   * Authentication: metadata `authorization: Key &lt;id&gt;.&lt;secret&gt;` (or `Bearer &lt;id&gt;.&lt;secret&gt;`) on each call, otherwise
   * UNAUTHENTICATED with API_KEY_*, or PERMISSION_DENIED with FACE_NOT_ALLOWED or APP_NOT_ALLOWED.
   * Errors: `google.rpc.Status` with exactly one `google.rpc.ErrorInfo` (see ErrorReason), and with
   * `google.rpc.BadRequest` that names each field at fault for INVALID_ARGUMENT, `google.rpc.QuotaFailure` that names
   * what is used up for RESOURCE_EXHAUSTED, `google.rpc.RetryInfo` for RESOURCE_EXHAUSTED and UNAVAILABLE.
   * Every call tells `x-request-id`, in its initial metadata together with the first message, or in its trailers where it
   * is refused: the caller's own where it sent one (1 to 128 characters of `A-Z a-z 0-9 . _ -`), otherwise one made by the
   * service.
   * A call that is refused before its first message has no initial metadata, so that the retries of gRPC itself (a
   * `retryPolicy` of the caller's service config) can make it again. `grpc-retry-pushback-ms` says when; below 0: never,
   * since the answer would stay. CountTokens is safe to make again; Generate and GenerateStream change nothing either, but
   * cost the model's time again.
   * A message has at most 28 MiB, room for one image of the largest size as a data URI; a larger one is
   * answered RESOURCE_EXHAUSTED, without details, before it is read.
   * Cancelling a call, or letting its deadline pass, stops the work on the model within one step.
   * </pre>
   */
  public static final class GenerationServiceBlockingStub extends io.grpc.stub.AbstractBlockingStub<GenerationServiceBlockingStub> {
    private GenerationServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected GenerationServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new GenerationServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one answer and returns it when it is complete.
     * </pre>
     */
    public idefics2.v1.Generation.GenerateResponse generate(idefics2.v1.Generation.GenerateRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGenerateMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Generates one answer and tells of each step on the way. The stream ends after `finished`, or with
     * an error status instead of it.
     * </pre>
     */
    public java.util.Iterator<idefics2.v1.Generation.Event> generateStream(
        idefics2.v1.Generation.GenerateRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getGenerateStreamMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Counts what a request would cost the model, without running it: images are looked at as far as
     * their headers only. Refuses what Generate would refuse, apart from CONTEXT_EXCEEDED and what only decoding
     * would find: damage, and that it takes too much memory or time.
     * </pre>
     */
    public idefics2.v1.Generation.CountTokensResponse countTokens(idefics2.v1.Generation.GenerateRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCountTokensMethod(), getCallOptions(), request);
    }
  }

  /**
   * <pre>
   * Answers questions about images with Idefics2.
   * Authentication: metadata `authorization: Key &lt;id&gt;.&lt;secret&gt;` (or `Bearer &lt;id&gt;.&lt;secret&gt;`) on each call, otherwise
   * UNAUTHENTICATED with API_KEY_*, or PERMISSION_DENIED with FACE_NOT_ALLOWED or APP_NOT_ALLOWED.
   * Errors: `google.rpc.Status` with exactly one `google.rpc.ErrorInfo` (see ErrorReason), and with
   * `google.rpc.BadRequest` that names each field at fault for INVALID_ARGUMENT, `google.rpc.QuotaFailure` that names
   * what is used up for RESOURCE_EXHAUSTED, `google.rpc.RetryInfo` for RESOURCE_EXHAUSTED and UNAVAILABLE.
   * Every call tells `x-request-id`, in its initial metadata together with the first message, or in its trailers where it
   * is refused: the caller's own where it sent one (1 to 128 characters of `A-Z a-z 0-9 . _ -`), otherwise one made by the
   * service.
   * A call that is refused before its first message has no initial metadata, so that the retries of gRPC itself (a
   * `retryPolicy` of the caller's service config) can make it again. `grpc-retry-pushback-ms` says when; below 0: never,
   * since the answer would stay. CountTokens is safe to make again; Generate and GenerateStream change nothing either, but
   * cost the model's time again.
   * A message has at most 28 MiB, room for one image of the largest size as a data URI; a larger one is
   * answered RESOURCE_EXHAUSTED, without details, before it is read.
   * Cancelling a call, or letting its deadline pass, stops the work on the model within one step.
   * </pre>
   */
  public static final class GenerationServiceFutureStub extends io.grpc.stub.AbstractFutureStub<GenerationServiceFutureStub> {
    private GenerationServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected GenerationServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new GenerationServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one answer and returns it when it is complete.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Generation.GenerateResponse> generate(
        idefics2.v1.Generation.GenerateRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGenerateMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Counts what a request would cost the model, without running it: images are looked at as far as
     * their headers only. Refuses what Generate would refuse, apart from CONTEXT_EXCEEDED and what only decoding
     * would find: damage, and that it takes too much memory or time.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Generation.CountTokensResponse> countTokens(
        idefics2.v1.Generation.GenerateRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCountTokensMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GENERATE = 0;
  private static final int METHODID_GENERATE_STREAM = 1;
  private static final int METHODID_COUNT_TOKENS = 2;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final GenerationServiceImplBase serviceImpl;
    private final int methodId;

    MethodHandlers(GenerationServiceImplBase serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_GENERATE:
          serviceImpl.generate((idefics2.v1.Generation.GenerateRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse>) responseObserver);
          break;
        case METHODID_GENERATE_STREAM:
          serviceImpl.generateStream((idefics2.v1.Generation.GenerateRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event>) responseObserver);
          break;
        case METHODID_COUNT_TOKENS:
          serviceImpl.countTokens((idefics2.v1.Generation.GenerateRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Generation.CountTokensResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  private static abstract class GenerationServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    GenerationServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return idefics2.v1.Generation.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("GenerationService");
    }
  }

  private static final class GenerationServiceFileDescriptorSupplier
      extends GenerationServiceBaseDescriptorSupplier {
    GenerationServiceFileDescriptorSupplier() {}
  }

  private static final class GenerationServiceMethodDescriptorSupplier
      extends GenerationServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final String methodName;

    GenerationServiceMethodDescriptorSupplier(String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (GenerationServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new GenerationServiceFileDescriptorSupplier())
              .addMethod(getGenerateMethod())
              .addMethod(getGenerateStreamMethod())
              .addMethod(getCountTokensMethod())
              .build();
        }
      }
    }
    return result;
  }
}
