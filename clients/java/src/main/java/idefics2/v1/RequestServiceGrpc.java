package idefics2.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Takes requests that outlive the call: once Submit has answered, a request ends in a result or an error,
 * whatever process dies. It can be watched, asked for and cancelled from anywhere, by the key that made it.
 * Authentication, errors and `x-request-id` are as in GenerationService. A request that does not exist and one
 * of another key are both answered NOT_FOUND with REQUEST_NOT_FOUND.
 * While the store cannot be reached, Submit and CancelRequest answer UNAVAILABLE with STORE_UNAVAILABLE, and so do
 * the others unless the store has a replica that knows the request: what they tell then may be a moment older than
 * what was told before. A Submit that was answered so may or may not have been taken, and is safe to send again with
 * the same `request_id`. All other calls are safe to make again.
 * </pre>
 */
@javax.annotation.Generated(
    value = "by gRPC proto compiler",
    comments = "Source: idefics2/v1/requests.proto")
@io.grpc.stub.annotations.GrpcGenerated
public final class RequestServiceGrpc {

  private RequestServiceGrpc() {}

  public static final String SERVICE_NAME = "idefics2.v1.RequestService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.SubmitRequest,
      idefics2.v1.Requests.Request> getSubmitMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Submit",
      requestType = idefics2.v1.Requests.SubmitRequest.class,
      responseType = idefics2.v1.Requests.Request.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.SubmitRequest,
      idefics2.v1.Requests.Request> getSubmitMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.SubmitRequest, idefics2.v1.Requests.Request> getSubmitMethod;
    if ((getSubmitMethod = RequestServiceGrpc.getSubmitMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getSubmitMethod = RequestServiceGrpc.getSubmitMethod) == null) {
          RequestServiceGrpc.getSubmitMethod = getSubmitMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.SubmitRequest, idefics2.v1.Requests.Request>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Submit"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.SubmitRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.Request.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("Submit"))
              .build();
        }
      }
    }
    return getSubmitMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.GetRequestRequest,
      idefics2.v1.Requests.Request> getGetRequestMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetRequest",
      requestType = idefics2.v1.Requests.GetRequestRequest.class,
      responseType = idefics2.v1.Requests.Request.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.GetRequestRequest,
      idefics2.v1.Requests.Request> getGetRequestMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.GetRequestRequest, idefics2.v1.Requests.Request> getGetRequestMethod;
    if ((getGetRequestMethod = RequestServiceGrpc.getGetRequestMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getGetRequestMethod = RequestServiceGrpc.getGetRequestMethod) == null) {
          RequestServiceGrpc.getGetRequestMethod = getGetRequestMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.GetRequestRequest, idefics2.v1.Requests.Request>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetRequest"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.GetRequestRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.Request.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("GetRequest"))
              .build();
        }
      }
    }
    return getGetRequestMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.WatchRequestRequest,
      idefics2.v1.Generation.Event> getWatchRequestMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchRequest",
      requestType = idefics2.v1.Requests.WatchRequestRequest.class,
      responseType = idefics2.v1.Generation.Event.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.WatchRequestRequest,
      idefics2.v1.Generation.Event> getWatchRequestMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.WatchRequestRequest, idefics2.v1.Generation.Event> getWatchRequestMethod;
    if ((getWatchRequestMethod = RequestServiceGrpc.getWatchRequestMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getWatchRequestMethod = RequestServiceGrpc.getWatchRequestMethod) == null) {
          RequestServiceGrpc.getWatchRequestMethod = getWatchRequestMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.WatchRequestRequest, idefics2.v1.Generation.Event>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchRequest"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.WatchRequestRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.Event.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("WatchRequest"))
              .build();
        }
      }
    }
    return getWatchRequestMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.GetResultRequest,
      idefics2.v1.Generation.GenerateResponse> getGetResultMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetResult",
      requestType = idefics2.v1.Requests.GetResultRequest.class,
      responseType = idefics2.v1.Generation.GenerateResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.GetResultRequest,
      idefics2.v1.Generation.GenerateResponse> getGetResultMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.GetResultRequest, idefics2.v1.Generation.GenerateResponse> getGetResultMethod;
    if ((getGetResultMethod = RequestServiceGrpc.getGetResultMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getGetResultMethod = RequestServiceGrpc.getGetResultMethod) == null) {
          RequestServiceGrpc.getGetResultMethod = getGetResultMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.GetResultRequest, idefics2.v1.Generation.GenerateResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetResult"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.GetResultRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Generation.GenerateResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("GetResult"))
              .build();
        }
      }
    }
    return getGetResultMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.CancelRequestRequest,
      idefics2.v1.Requests.Request> getCancelRequestMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelRequest",
      requestType = idefics2.v1.Requests.CancelRequestRequest.class,
      responseType = idefics2.v1.Requests.Request.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.CancelRequestRequest,
      idefics2.v1.Requests.Request> getCancelRequestMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.CancelRequestRequest, idefics2.v1.Requests.Request> getCancelRequestMethod;
    if ((getCancelRequestMethod = RequestServiceGrpc.getCancelRequestMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getCancelRequestMethod = RequestServiceGrpc.getCancelRequestMethod) == null) {
          RequestServiceGrpc.getCancelRequestMethod = getCancelRequestMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.CancelRequestRequest, idefics2.v1.Requests.Request>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelRequest"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.CancelRequestRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.Request.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("CancelRequest"))
              .build();
        }
      }
    }
    return getCancelRequestMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Requests.ListRequestsRequest,
      idefics2.v1.Requests.ListRequestsResponse> getListRequestsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListRequests",
      requestType = idefics2.v1.Requests.ListRequestsRequest.class,
      responseType = idefics2.v1.Requests.ListRequestsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Requests.ListRequestsRequest,
      idefics2.v1.Requests.ListRequestsResponse> getListRequestsMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Requests.ListRequestsRequest, idefics2.v1.Requests.ListRequestsResponse> getListRequestsMethod;
    if ((getListRequestsMethod = RequestServiceGrpc.getListRequestsMethod) == null) {
      synchronized (RequestServiceGrpc.class) {
        if ((getListRequestsMethod = RequestServiceGrpc.getListRequestsMethod) == null) {
          RequestServiceGrpc.getListRequestsMethod = getListRequestsMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Requests.ListRequestsRequest, idefics2.v1.Requests.ListRequestsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListRequests"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.ListRequestsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Requests.ListRequestsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new RequestServiceMethodDescriptorSupplier("ListRequests"))
              .build();
        }
      }
    }
    return getListRequestsMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static RequestServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RequestServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RequestServiceStub>() {
        @java.lang.Override
        public RequestServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RequestServiceStub(channel, callOptions);
        }
      };
    return RequestServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static RequestServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RequestServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RequestServiceBlockingStub>() {
        @java.lang.Override
        public RequestServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RequestServiceBlockingStub(channel, callOptions);
        }
      };
    return RequestServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static RequestServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<RequestServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<RequestServiceFutureStub>() {
        @java.lang.Override
        public RequestServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new RequestServiceFutureStub(channel, callOptions);
        }
      };
    return RequestServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Takes requests that outlive the call: once Submit has answered, a request ends in a result or an error,
   * whatever process dies. It can be watched, asked for and cancelled from anywhere, by the key that made it.
   * Authentication, errors and `x-request-id` are as in GenerationService. A request that does not exist and one
   * of another key are both answered NOT_FOUND with REQUEST_NOT_FOUND.
   * While the store cannot be reached, Submit and CancelRequest answer UNAVAILABLE with STORE_UNAVAILABLE, and so do
   * the others unless the store has a replica that knows the request: what they tell then may be a moment older than
   * what was told before. A Submit that was answered so may or may not have been taken, and is safe to send again with
   * the same `request_id`. All other calls are safe to make again.
   * </pre>
   */
  public static abstract class RequestServiceImplBase implements io.grpc.BindableService {

    /**
     * <pre>
     * Takes a request and returns at once. The same `request_id` with the same content returns the request that
     * was taken before; with other content it answers ALREADY_EXISTS with REQUEST_ID_TAKEN.
     * What can be seen without reading an image is refused here as by Generate; also FILE_NOT_UPLOADED, QUEUE_FULL, and
     * PAYLOAD_TOO_LARGE, for which uploaded images count, too. What is wrong with an image (FILE_*), and CONTEXT_EXCEEDED,
     * end the request later. It is taken also while the model is away.
     * </pre>
     */
    public void submit(idefics2.v1.Requests.SubmitRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSubmitMethod(), responseObserver);
    }

    /**
     * <pre>
     * Tells where a request stands.
     * </pre>
     */
    public void getRequest(idefics2.v1.Requests.GetRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetRequestMethod(), responseObserver);
    }

    /**
     * <pre>
     * Tells of every event after `after`: first those that happened, then each as it happens, to `finished`. A
     * watcher that lost its connection goes on anywhere with the `sequence` of the last event it saw, without gap
     * or repeat. The place in the queue is told on the way, as events of sequence 0. Leaving does not cancel the
     * request.
     * </pre>
     */
    public void watchRequest(idefics2.v1.Requests.WatchRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchRequestMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the answer. A request that failed or was cancelled answers with its own error; one that is not at
     * its end yet FAILED_PRECONDITION with REQUEST_NOT_FINISHED.
     * </pre>
     */
    public void getResult(idefics2.v1.Requests.GetResultRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetResultMethod(), responseObserver);
    }

    /**
     * <pre>
     * Cancels a request: one that waits never starts, one that runs frees the model within one step. To cancel one
     * that has ended, or was cancelled before, changes nothing. Returns the request, which may still be RUNNING
     * for a moment.
     * </pre>
     */
    public void cancelRequest(idefics2.v1.Requests.CancelRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelRequestMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the requests of the caller's key that are still known, newest first.
     * </pre>
     */
    public void listRequests(idefics2.v1.Requests.ListRequestsRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.ListRequestsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListRequestsMethod(), responseObserver);
    }

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
          .addMethod(
            getSubmitMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Requests.SubmitRequest,
                idefics2.v1.Requests.Request>(
                  this, METHODID_SUBMIT)))
          .addMethod(
            getGetRequestMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Requests.GetRequestRequest,
                idefics2.v1.Requests.Request>(
                  this, METHODID_GET_REQUEST)))
          .addMethod(
            getWatchRequestMethod(),
            io.grpc.stub.ServerCalls.asyncServerStreamingCall(
              new MethodHandlers<
                idefics2.v1.Requests.WatchRequestRequest,
                idefics2.v1.Generation.Event>(
                  this, METHODID_WATCH_REQUEST)))
          .addMethod(
            getGetResultMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Requests.GetResultRequest,
                idefics2.v1.Generation.GenerateResponse>(
                  this, METHODID_GET_RESULT)))
          .addMethod(
            getCancelRequestMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Requests.CancelRequestRequest,
                idefics2.v1.Requests.Request>(
                  this, METHODID_CANCEL_REQUEST)))
          .addMethod(
            getListRequestsMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Requests.ListRequestsRequest,
                idefics2.v1.Requests.ListRequestsResponse>(
                  this, METHODID_LIST_REQUESTS)))
          .build();
    }
  }

  /**
   * <pre>
   * Takes requests that outlive the call: once Submit has answered, a request ends in a result or an error,
   * whatever process dies. It can be watched, asked for and cancelled from anywhere, by the key that made it.
   * Authentication, errors and `x-request-id` are as in GenerationService. A request that does not exist and one
   * of another key are both answered NOT_FOUND with REQUEST_NOT_FOUND.
   * While the store cannot be reached, Submit and CancelRequest answer UNAVAILABLE with STORE_UNAVAILABLE, and so do
   * the others unless the store has a replica that knows the request: what they tell then may be a moment older than
   * what was told before. A Submit that was answered so may or may not have been taken, and is safe to send again with
   * the same `request_id`. All other calls are safe to make again.
   * </pre>
   */
  public static final class RequestServiceStub extends io.grpc.stub.AbstractAsyncStub<RequestServiceStub> {
    private RequestServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RequestServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RequestServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Takes a request and returns at once. The same `request_id` with the same content returns the request that
     * was taken before; with other content it answers ALREADY_EXISTS with REQUEST_ID_TAKEN.
     * What can be seen without reading an image is refused here as by Generate; also FILE_NOT_UPLOADED, QUEUE_FULL, and
     * PAYLOAD_TOO_LARGE, for which uploaded images count, too. What is wrong with an image (FILE_*), and CONTEXT_EXCEEDED,
     * end the request later. It is taken also while the model is away.
     * </pre>
     */
    public void submit(idefics2.v1.Requests.SubmitRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSubmitMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Tells where a request stands.
     * </pre>
     */
    public void getRequest(idefics2.v1.Requests.GetRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetRequestMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Tells of every event after `after`: first those that happened, then each as it happens, to `finished`. A
     * watcher that lost its connection goes on anywhere with the `sequence` of the last event it saw, without gap
     * or repeat. The place in the queue is told on the way, as events of sequence 0. Leaving does not cancel the
     * request.
     * </pre>
     */
    public void watchRequest(idefics2.v1.Requests.WatchRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchRequestMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the answer. A request that failed or was cancelled answers with its own error; one that is not at
     * its end yet FAILED_PRECONDITION with REQUEST_NOT_FINISHED.
     * </pre>
     */
    public void getResult(idefics2.v1.Requests.GetResultRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetResultMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Cancels a request: one that waits never starts, one that runs frees the model within one step. To cancel one
     * that has ended, or was cancelled before, changes nothing. Returns the request, which may still be RUNNING
     * for a moment.
     * </pre>
     */
    public void cancelRequest(idefics2.v1.Requests.CancelRequestRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelRequestMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the requests of the caller's key that are still known, newest first.
     * </pre>
     */
    public void listRequests(idefics2.v1.Requests.ListRequestsRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Requests.ListRequestsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListRequestsMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * <pre>
   * Takes requests that outlive the call: once Submit has answered, a request ends in a result or an error,
   * whatever process dies. It can be watched, asked for and cancelled from anywhere, by the key that made it.
   * Authentication, errors and `x-request-id` are as in GenerationService. A request that does not exist and one
   * of another key are both answered NOT_FOUND with REQUEST_NOT_FOUND.
   * While the store cannot be reached, Submit and CancelRequest answer UNAVAILABLE with STORE_UNAVAILABLE, and so do
   * the others unless the store has a replica that knows the request: what they tell then may be a moment older than
   * what was told before. A Submit that was answered so may or may not have been taken, and is safe to send again with
   * the same `request_id`. All other calls are safe to make again.
   * </pre>
   */
  public static final class RequestServiceBlockingStub extends io.grpc.stub.AbstractBlockingStub<RequestServiceBlockingStub> {
    private RequestServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RequestServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RequestServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Takes a request and returns at once. The same `request_id` with the same content returns the request that
     * was taken before; with other content it answers ALREADY_EXISTS with REQUEST_ID_TAKEN.
     * What can be seen without reading an image is refused here as by Generate; also FILE_NOT_UPLOADED, QUEUE_FULL, and
     * PAYLOAD_TOO_LARGE, for which uploaded images count, too. What is wrong with an image (FILE_*), and CONTEXT_EXCEEDED,
     * end the request later. It is taken also while the model is away.
     * </pre>
     */
    public idefics2.v1.Requests.Request submit(idefics2.v1.Requests.SubmitRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSubmitMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Tells where a request stands.
     * </pre>
     */
    public idefics2.v1.Requests.Request getRequest(idefics2.v1.Requests.GetRequestRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Tells of every event after `after`: first those that happened, then each as it happens, to `finished`. A
     * watcher that lost its connection goes on anywhere with the `sequence` of the last event it saw, without gap
     * or repeat. The place in the queue is told on the way, as events of sequence 0. Leaving does not cancel the
     * request.
     * </pre>
     */
    public java.util.Iterator<idefics2.v1.Generation.Event> watchRequest(
        idefics2.v1.Requests.WatchRequestRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the answer. A request that failed or was cancelled answers with its own error; one that is not at
     * its end yet FAILED_PRECONDITION with REQUEST_NOT_FINISHED.
     * </pre>
     */
    public idefics2.v1.Generation.GenerateResponse getResult(idefics2.v1.Requests.GetResultRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetResultMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a request: one that waits never starts, one that runs frees the model within one step. To cancel one
     * that has ended, or was cancelled before, changes nothing. Returns the request, which may still be RUNNING
     * for a moment.
     * </pre>
     */
    public idefics2.v1.Requests.Request cancelRequest(idefics2.v1.Requests.CancelRequestRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the requests of the caller's key that are still known, newest first.
     * </pre>
     */
    public idefics2.v1.Requests.ListRequestsResponse listRequests(idefics2.v1.Requests.ListRequestsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListRequestsMethod(), getCallOptions(), request);
    }
  }

  /**
   * <pre>
   * Takes requests that outlive the call: once Submit has answered, a request ends in a result or an error,
   * whatever process dies. It can be watched, asked for and cancelled from anywhere, by the key that made it.
   * Authentication, errors and `x-request-id` are as in GenerationService. A request that does not exist and one
   * of another key are both answered NOT_FOUND with REQUEST_NOT_FOUND.
   * While the store cannot be reached, Submit and CancelRequest answer UNAVAILABLE with STORE_UNAVAILABLE, and so do
   * the others unless the store has a replica that knows the request: what they tell then may be a moment older than
   * what was told before. A Submit that was answered so may or may not have been taken, and is safe to send again with
   * the same `request_id`. All other calls are safe to make again.
   * </pre>
   */
  public static final class RequestServiceFutureStub extends io.grpc.stub.AbstractFutureStub<RequestServiceFutureStub> {
    private RequestServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected RequestServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new RequestServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Takes a request and returns at once. The same `request_id` with the same content returns the request that
     * was taken before; with other content it answers ALREADY_EXISTS with REQUEST_ID_TAKEN.
     * What can be seen without reading an image is refused here as by Generate; also FILE_NOT_UPLOADED, QUEUE_FULL, and
     * PAYLOAD_TOO_LARGE, for which uploaded images count, too. What is wrong with an image (FILE_*), and CONTEXT_EXCEEDED,
     * end the request later. It is taken also while the model is away.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Requests.Request> submit(
        idefics2.v1.Requests.SubmitRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSubmitMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Tells where a request stands.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Requests.Request> getRequest(
        idefics2.v1.Requests.GetRequestRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetRequestMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the answer. A request that failed or was cancelled answers with its own error; one that is not at
     * its end yet FAILED_PRECONDITION with REQUEST_NOT_FINISHED.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Generation.GenerateResponse> getResult(
        idefics2.v1.Requests.GetResultRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetResultMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Cancels a request: one that waits never starts, one that runs frees the model within one step. To cancel one
     * that has ended, or was cancelled before, changes nothing. Returns the request, which may still be RUNNING
     * for a moment.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Requests.Request> cancelRequest(
        idefics2.v1.Requests.CancelRequestRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelRequestMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the requests of the caller's key that are still known, newest first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Requests.ListRequestsResponse> listRequests(
        idefics2.v1.Requests.ListRequestsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListRequestsMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_SUBMIT = 0;
  private static final int METHODID_GET_REQUEST = 1;
  private static final int METHODID_WATCH_REQUEST = 2;
  private static final int METHODID_GET_RESULT = 3;
  private static final int METHODID_CANCEL_REQUEST = 4;
  private static final int METHODID_LIST_REQUESTS = 5;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final RequestServiceImplBase serviceImpl;
    private final int methodId;

    MethodHandlers(RequestServiceImplBase serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_SUBMIT:
          serviceImpl.submit((idefics2.v1.Requests.SubmitRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request>) responseObserver);
          break;
        case METHODID_GET_REQUEST:
          serviceImpl.getRequest((idefics2.v1.Requests.GetRequestRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request>) responseObserver);
          break;
        case METHODID_WATCH_REQUEST:
          serviceImpl.watchRequest((idefics2.v1.Requests.WatchRequestRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Generation.Event>) responseObserver);
          break;
        case METHODID_GET_RESULT:
          serviceImpl.getResult((idefics2.v1.Requests.GetResultRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Generation.GenerateResponse>) responseObserver);
          break;
        case METHODID_CANCEL_REQUEST:
          serviceImpl.cancelRequest((idefics2.v1.Requests.CancelRequestRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Requests.Request>) responseObserver);
          break;
        case METHODID_LIST_REQUESTS:
          serviceImpl.listRequests((idefics2.v1.Requests.ListRequestsRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Requests.ListRequestsResponse>) responseObserver);
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

  private static abstract class RequestServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    RequestServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return idefics2.v1.Requests.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("RequestService");
    }
  }

  private static final class RequestServiceFileDescriptorSupplier
      extends RequestServiceBaseDescriptorSupplier {
    RequestServiceFileDescriptorSupplier() {}
  }

  private static final class RequestServiceMethodDescriptorSupplier
      extends RequestServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final String methodName;

    RequestServiceMethodDescriptorSupplier(String methodName) {
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
      synchronized (RequestServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new RequestServiceFileDescriptorSupplier())
              .addMethod(getSubmitMethod())
              .addMethod(getGetRequestMethod())
              .addMethod(getWatchRequestMethod())
              .addMethod(getGetResultMethod())
              .addMethod(getCancelRequestMethod())
              .addMethod(getListRequestsMethod())
              .build();
        }
      }
    }
    return result;
  }
}
