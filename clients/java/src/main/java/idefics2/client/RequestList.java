package idefics2.client;

import idefics2.v1.RequestServiceGrpc;
import idefics2.v1.Requests.ListRequestsRequest;
import idefics2.v1.Requests.ListRequestsResponse;
import idefics2.v1.Requests.Request;
import java.util.Collections;
import java.util.Iterator;
import java.util.function.Supplier;

/** The requests of a key; a page is fetched when it is needed. */
final class RequestList extends Answers<Request> {
  private final Connection connection;
  private final Supplier<Patience> patience;
  private ListRequestsRequest question;
  private Iterator<Request> page = Collections.emptyIterator();
  private volatile Runnable leave = () -> {};
  private volatile boolean isLeft;

  RequestList(Connection connection, ListRequestsRequest question, Supplier<Patience> patience) {
    this.connection = connection;
    this.question = question;
    this.patience = patience;
  }

  @Override
  Request read() {
    while (!page.hasNext() && question != null) {
      ListRequestsResponse answer =
          connection.askRepeatedly(RequestServiceGrpc.getListRequestsMethod(), question, begin());
      page = answer.getRequestsList().iterator();
      String token = answer.getNextPageToken();
      question = token.isEmpty() ? null : question.toBuilder().setPageToken(token).build();
    }
    return page.hasNext() ? page.next() : null;
  }

  @Override
  public void close() {
    isLeft = true;
    leave.run();
  }

  /** Each page has a deadline of its own, from when it is asked for: between pages the time is the caller's. */
  private Patience begin() {
    Patience begun = patience.get();
    leave = begun::leave;
    if (isLeft) {
      begun.leave();
    }
    return begun;
  }
}
