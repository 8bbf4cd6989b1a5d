package idefics2.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Takes pictures that requests may then name by their sha-256 or by a URL, as often as they like, instead of
 * bringing their bytes each time. A file belongs to the key that uploaded it, and is forgotten after its time.
 * Authentication, errors and `x-request-id` are as in GenerationService. A file that does not exist, one whose time
 * is over and one of another key are all answered NOT_FOUND with FILE_NOT_UPLOADED. While the object store is away,
 * or the disk fails, every call answers UNAVAILABLE with FILE_STORE_UNAVAILABLE; while the disk is full, uploads do,
 * and files can be read and deleted.
 * </pre>
 */
@javax.annotation.Generated(
    value = "by gRPC proto compiler",
    comments = "Source: idefics2/v1/files.proto")
@io.grpc.stub.annotations.GrpcGenerated
public final class FileServiceGrpc {

  private FileServiceGrpc() {}

  public static final String SERVICE_NAME = "idefics2.v1.FileService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.UploadRequest,
      idefics2.v1.Files.File> getUploadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Upload",
      requestType = idefics2.v1.Files.UploadRequest.class,
      responseType = idefics2.v1.Files.File.class,
      methodType = io.grpc.MethodDescriptor.MethodType.CLIENT_STREAMING)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.UploadRequest,
      idefics2.v1.Files.File> getUploadMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.UploadRequest, idefics2.v1.Files.File> getUploadMethod;
    if ((getUploadMethod = FileServiceGrpc.getUploadMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getUploadMethod = FileServiceGrpc.getUploadMethod) == null) {
          FileServiceGrpc.getUploadMethod = getUploadMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.UploadRequest, idefics2.v1.Files.File>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.CLIENT_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Upload"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.UploadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.File.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("Upload"))
              .build();
        }
      }
    }
    return getUploadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.GetUploadRequest,
      idefics2.v1.Files.GetUploadResponse> getGetUploadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetUpload",
      requestType = idefics2.v1.Files.GetUploadRequest.class,
      responseType = idefics2.v1.Files.GetUploadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.GetUploadRequest,
      idefics2.v1.Files.GetUploadResponse> getGetUploadMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.GetUploadRequest, idefics2.v1.Files.GetUploadResponse> getGetUploadMethod;
    if ((getGetUploadMethod = FileServiceGrpc.getGetUploadMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getGetUploadMethod = FileServiceGrpc.getGetUploadMethod) == null) {
          FileServiceGrpc.getGetUploadMethod = getGetUploadMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.GetUploadRequest, idefics2.v1.Files.GetUploadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetUpload"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.GetUploadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.GetUploadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("GetUpload"))
              .build();
        }
      }
    }
    return getGetUploadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.DownloadFileRequest,
      idefics2.v1.Files.DownloadFileResponse> getDownloadFileMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DownloadFile",
      requestType = idefics2.v1.Files.DownloadFileRequest.class,
      responseType = idefics2.v1.Files.DownloadFileResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.DownloadFileRequest,
      idefics2.v1.Files.DownloadFileResponse> getDownloadFileMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.DownloadFileRequest, idefics2.v1.Files.DownloadFileResponse> getDownloadFileMethod;
    if ((getDownloadFileMethod = FileServiceGrpc.getDownloadFileMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getDownloadFileMethod = FileServiceGrpc.getDownloadFileMethod) == null) {
          FileServiceGrpc.getDownloadFileMethod = getDownloadFileMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.DownloadFileRequest, idefics2.v1.Files.DownloadFileResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DownloadFile"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.DownloadFileRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.DownloadFileResponse.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("DownloadFile"))
              .build();
        }
      }
    }
    return getDownloadFileMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.GetFileRequest,
      idefics2.v1.Files.File> getGetFileMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetFile",
      requestType = idefics2.v1.Files.GetFileRequest.class,
      responseType = idefics2.v1.Files.File.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.GetFileRequest,
      idefics2.v1.Files.File> getGetFileMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.GetFileRequest, idefics2.v1.Files.File> getGetFileMethod;
    if ((getGetFileMethod = FileServiceGrpc.getGetFileMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getGetFileMethod = FileServiceGrpc.getGetFileMethod) == null) {
          FileServiceGrpc.getGetFileMethod = getGetFileMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.GetFileRequest, idefics2.v1.Files.File>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetFile"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.GetFileRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.File.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("GetFile"))
              .build();
        }
      }
    }
    return getGetFileMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.DeleteFileRequest,
      idefics2.v1.Files.File> getDeleteFileMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteFile",
      requestType = idefics2.v1.Files.DeleteFileRequest.class,
      responseType = idefics2.v1.Files.File.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.DeleteFileRequest,
      idefics2.v1.Files.File> getDeleteFileMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.DeleteFileRequest, idefics2.v1.Files.File> getDeleteFileMethod;
    if ((getDeleteFileMethod = FileServiceGrpc.getDeleteFileMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getDeleteFileMethod = FileServiceGrpc.getDeleteFileMethod) == null) {
          FileServiceGrpc.getDeleteFileMethod = getDeleteFileMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.DeleteFileRequest, idefics2.v1.Files.File>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteFile"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.DeleteFileRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.File.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("DeleteFile"))
              .build();
        }
      }
    }
    return getDeleteFileMethod;
  }

  private static volatile io.grpc.MethodDescriptor<idefics2.v1.Files.ListFilesRequest,
      idefics2.v1.Files.ListFilesResponse> getListFilesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListFiles",
      requestType = idefics2.v1.Files.ListFilesRequest.class,
      responseType = idefics2.v1.Files.ListFilesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<idefics2.v1.Files.ListFilesRequest,
      idefics2.v1.Files.ListFilesResponse> getListFilesMethod() {
    io.grpc.MethodDescriptor<idefics2.v1.Files.ListFilesRequest, idefics2.v1.Files.ListFilesResponse> getListFilesMethod;
    if ((getListFilesMethod = FileServiceGrpc.getListFilesMethod) == null) {
      synchronized (FileServiceGrpc.class) {
        if ((getListFilesMethod = FileServiceGrpc.getListFilesMethod) == null) {
          FileServiceGrpc.getListFilesMethod = getListFilesMethod =
              io.grpc.MethodDescriptor.<idefics2.v1.Files.ListFilesRequest, idefics2.v1.Files.ListFilesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListFiles"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.ListFilesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  idefics2.v1.Files.ListFilesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new FileServiceMethodDescriptorSupplier("ListFiles"))
              .build();
        }
      }
    }
    return getListFilesMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static FileServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<FileServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<FileServiceStub>() {
        @java.lang.Override
        public FileServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new FileServiceStub(channel, callOptions);
        }
      };
    return FileServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static FileServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<FileServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<FileServiceBlockingStub>() {
        @java.lang.Override
        public FileServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new FileServiceBlockingStub(channel, callOptions);
        }
      };
    return FileServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static FileServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<FileServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<FileServiceFutureStub>() {
        @java.lang.Override
        public FileServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new FileServiceFutureStub(channel, callOptions);
        }
      };
    return FileServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Takes pictures that requests may then name by their sha-256 or by a URL, as often as they like, instead of
   * bringing their bytes each time. A file belongs to the key that uploaded it, and is forgotten after its time.
   * Authentication, errors and `x-request-id` are as in GenerationService. A file that does not exist, one whose time
   * is over and one of another key are all answered NOT_FOUND with FILE_NOT_UPLOADED. While the object store is away,
   * or the disk fails, every call answers UNAVAILABLE with FILE_STORE_UNAVAILABLE; while the disk is full, uploads do,
   * and files can be read and deleted.
   * </pre>
   */
  public static abstract class FileServiceImplBase implements io.grpc.BindableService {

    /**
     * <pre>
     * Takes a file in chunks. The first message holds `start`, each further one a `chunk`; the answer comes after
     * the last one, and from then on the file can be used. The same bytes uploaded twice by a key are kept once, have
     * the same id, and their time begins anew; where `start.sha256` names such a file, the answer comes at once,
     * without the bytes.
     * An upload that broke, or ended before all its bytes came, is gone on with by another call of the same
     * `upload_id`, from where GetUpload says. What was refused is forgotten as a whole and begins anew.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<idefics2.v1.Files.UploadRequest> upload(
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      return io.grpc.stub.ServerCalls.asyncUnimplementedStreamingCall(getUploadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Tells how much of an unfinished upload is kept. One that is complete is none any more: look for the file by
     * its sha-256. UPLOAD_NOT_FOUND.
     * </pre>
     */
    public void getUpload(idefics2.v1.Files.GetUploadRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.GetUploadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetUploadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the bytes of a file, in chunks of at most 1 MiB. A download that broke is gone on with by `offset`.
     * </pre>
     */
    public void downloadFile(idefics2.v1.Files.DownloadFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.DownloadFileResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDownloadFileMethod(), responseObserver);
    }

    /**
     * <pre>
     * Tells of a file without its bytes.
     * </pre>
     */
    public void getFile(idefics2.v1.Files.GetFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetFileMethod(), responseObserver);
    }

    /**
     * <pre>
     * Forgets a file at once, and returns what it was. Requests that were submitted with it keep its bytes.
     * </pre>
     */
    public void deleteFile(idefics2.v1.Files.DeleteFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteFileMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the files of the caller's key, ordered by their ids.
     * </pre>
     */
    public void listFiles(idefics2.v1.Files.ListFilesRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.ListFilesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListFilesMethod(), responseObserver);
    }

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
          .addMethod(
            getUploadMethod(),
            io.grpc.stub.ServerCalls.asyncClientStreamingCall(
              new MethodHandlers<
                idefics2.v1.Files.UploadRequest,
                idefics2.v1.Files.File>(
                  this, METHODID_UPLOAD)))
          .addMethod(
            getGetUploadMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Files.GetUploadRequest,
                idefics2.v1.Files.GetUploadResponse>(
                  this, METHODID_GET_UPLOAD)))
          .addMethod(
            getDownloadFileMethod(),
            io.grpc.stub.ServerCalls.asyncServerStreamingCall(
              new MethodHandlers<
                idefics2.v1.Files.DownloadFileRequest,
                idefics2.v1.Files.DownloadFileResponse>(
                  this, METHODID_DOWNLOAD_FILE)))
          .addMethod(
            getGetFileMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Files.GetFileRequest,
                idefics2.v1.Files.File>(
                  this, METHODID_GET_FILE)))
          .addMethod(
            getDeleteFileMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Files.DeleteFileRequest,
                idefics2.v1.Files.File>(
                  this, METHODID_DELETE_FILE)))
          .addMethod(
            getListFilesMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                idefics2.v1.Files.ListFilesRequest,
                idefics2.v1.Files.ListFilesResponse>(
                  this, METHODID_LIST_FILES)))
          .build();
    }
  }

  /**
   * <pre>
   * Takes pictures that requests may then name by their sha-256 or by a URL, as often as they like, instead of
   * bringing their bytes each time. A file belongs to the key that uploaded it, and is forgotten after its time.
   * Authentication, errors and `x-request-id` are as in GenerationService. A file that does not exist, one whose time
   * is over and one of another key are all answered NOT_FOUND with FILE_NOT_UPLOADED. While the object store is away,
   * or the disk fails, every call answers UNAVAILABLE with FILE_STORE_UNAVAILABLE; while the disk is full, uploads do,
   * and files can be read and deleted.
   * </pre>
   */
  public static final class FileServiceStub extends io.grpc.stub.AbstractAsyncStub<FileServiceStub> {
    private FileServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected FileServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new FileServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Takes a file in chunks. The first message holds `start`, each further one a `chunk`; the answer comes after
     * the last one, and from then on the file can be used. The same bytes uploaded twice by a key are kept once, have
     * the same id, and their time begins anew; where `start.sha256` names such a file, the answer comes at once,
     * without the bytes.
     * An upload that broke, or ended before all its bytes came, is gone on with by another call of the same
     * `upload_id`, from where GetUpload says. What was refused is forgotten as a whole and begins anew.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<idefics2.v1.Files.UploadRequest> upload(
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      return io.grpc.stub.ClientCalls.asyncClientStreamingCall(
          getChannel().newCall(getUploadMethod(), getCallOptions()), responseObserver);
    }

    /**
     * <pre>
     * Tells how much of an unfinished upload is kept. One that is complete is none any more: look for the file by
     * its sha-256. UPLOAD_NOT_FOUND.
     * </pre>
     */
    public void getUpload(idefics2.v1.Files.GetUploadRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.GetUploadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetUploadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the bytes of a file, in chunks of at most 1 MiB. A download that broke is gone on with by `offset`.
     * </pre>
     */
    public void downloadFile(idefics2.v1.Files.DownloadFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.DownloadFileResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getDownloadFileMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Tells of a file without its bytes.
     * </pre>
     */
    public void getFile(idefics2.v1.Files.GetFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetFileMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Forgets a file at once, and returns what it was. Requests that were submitted with it keep its bytes.
     * </pre>
     */
    public void deleteFile(idefics2.v1.Files.DeleteFileRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.File> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteFileMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the files of the caller's key, ordered by their ids.
     * </pre>
     */
    public void listFiles(idefics2.v1.Files.ListFilesRequest request,
        io.grpc.stub.StreamObserver<idefics2.v1.Files.ListFilesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListFilesMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * <pre>
   * Takes pictures that requests may then name by their sha-256 or by a URL, as often as they like, instead of
   * bringing their bytes each time. A file belongs to the key that uploaded it, and is forgotten after its time.
   * Authentication, errors and `x-request-id` are as in GenerationService. A file that does not exist, one whose time
   * is over and one of another key are all answered NOT_FOUND with FILE_NOT_UPLOADED. While the object store is away,
   * or the disk fails, every call answers UNAVAILABLE with FILE_STORE_UNAVAILABLE; while the disk is full, uploads do,
   * and files can be read and deleted.
   * </pre>
   */
  public static final class FileServiceBlockingStub extends io.grpc.stub.AbstractBlockingStub<FileServiceBlockingStub> {
    private FileServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected FileServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new FileServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells how much of an unfinished upload is kept. One that is complete is none any more: look for the file by
     * its sha-256. UPLOAD_NOT_FOUND.
     * </pre>
     */
    public idefics2.v1.Files.GetUploadResponse getUpload(idefics2.v1.Files.GetUploadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetUploadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the bytes of a file, in chunks of at most 1 MiB. A download that broke is gone on with by `offset`.
     * </pre>
     */
    public java.util.Iterator<idefics2.v1.Files.DownloadFileResponse> downloadFile(
        idefics2.v1.Files.DownloadFileRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getDownloadFileMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Tells of a file without its bytes.
     * </pre>
     */
    public idefics2.v1.Files.File getFile(idefics2.v1.Files.GetFileRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetFileMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Forgets a file at once, and returns what it was. Requests that were submitted with it keep its bytes.
     * </pre>
     */
    public idefics2.v1.Files.File deleteFile(idefics2.v1.Files.DeleteFileRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteFileMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the files of the caller's key, ordered by their ids.
     * </pre>
     */
    public idefics2.v1.Files.ListFilesResponse listFiles(idefics2.v1.Files.ListFilesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListFilesMethod(), getCallOptions(), request);
    }
  }

  /**
   * <pre>
   * Takes pictures that requests may then name by their sha-256 or by a URL, as often as they like, instead of
   * bringing their bytes each time. A file belongs to the key that uploaded it, and is forgotten after its time.
   * Authentication, errors and `x-request-id` are as in GenerationService. A file that does not exist, one whose time
   * is over and one of another key are all answered NOT_FOUND with FILE_NOT_UPLOADED. While the object store is away,
   * or the disk fails, every call answers UNAVAILABLE with FILE_STORE_UNAVAILABLE; while the disk is full, uploads do,
   * and files can be read and deleted.
   * </pre>
   */
  public static final class FileServiceFutureStub extends io.grpc.stub.AbstractFutureStub<FileServiceFutureStub> {
    private FileServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected FileServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new FileServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells how much of an unfinished upload is kept. One that is complete is none any more: look for the file by
     * its sha-256. UPLOAD_NOT_FOUND.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Files.GetUploadResponse> getUpload(
        idefics2.v1.Files.GetUploadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetUploadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Tells of a file without its bytes.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Files.File> getFile(
        idefics2.v1.Files.GetFileRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetFileMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Forgets a file at once, and returns what it was. Requests that were submitted with it keep its bytes.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Files.File> deleteFile(
        idefics2.v1.Files.DeleteFileRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteFileMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the files of the caller's key, ordered by their ids.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<idefics2.v1.Files.ListFilesResponse> listFiles(
        idefics2.v1.Files.ListFilesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListFilesMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_UPLOAD = 0;
  private static final int METHODID_DOWNLOAD_FILE = 1;
  private static final int METHODID_GET_FILE = 2;
  private static final int METHODID_DELETE_FILE = 3;
  private static final int METHODID_LIST_FILES = 4;
  private static final int METHODID_UPLOAD = 5;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final FileServiceImplBase serviceImpl;
    private final int methodId;

    MethodHandlers(FileServiceImplBase serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_GET_UPLOAD:
          serviceImpl.getUpload((idefics2.v1.Files.GetUploadRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.GetUploadResponse>) responseObserver);
          break;
        case METHODID_DOWNLOAD_FILE:
          serviceImpl.downloadFile((idefics2.v1.Files.DownloadFileRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.DownloadFileResponse>) responseObserver);
          break;
        case METHODID_GET_FILE:
          serviceImpl.getFile((idefics2.v1.Files.GetFileRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.File>) responseObserver);
          break;
        case METHODID_DELETE_FILE:
          serviceImpl.deleteFile((idefics2.v1.Files.DeleteFileRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.File>) responseObserver);
          break;
        case METHODID_LIST_FILES:
          serviceImpl.listFiles((idefics2.v1.Files.ListFilesRequest) request,
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.ListFilesResponse>) responseObserver);
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
        case METHODID_UPLOAD:
          return (io.grpc.stub.StreamObserver<Req>) serviceImpl.upload(
              (io.grpc.stub.StreamObserver<idefics2.v1.Files.File>) responseObserver);
        default:
          throw new AssertionError();
      }
    }
  }

  private static abstract class FileServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    FileServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return idefics2.v1.Files.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("FileService");
    }
  }

  private static final class FileServiceFileDescriptorSupplier
      extends FileServiceBaseDescriptorSupplier {
    FileServiceFileDescriptorSupplier() {}
  }

  private static final class FileServiceMethodDescriptorSupplier
      extends FileServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final String methodName;

    FileServiceMethodDescriptorSupplier(String methodName) {
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
      synchronized (FileServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new FileServiceFileDescriptorSupplier())
              .addMethod(getUploadMethod())
              .addMethod(getGetUploadMethod())
              .addMethod(getDownloadFileMethod())
              .addMethod(getGetFileMethod())
              .addMethod(getDeleteFileMethod())
              .addMethod(getListFilesMethod())
              .build();
        }
      }
    }
    return result;
  }
}
