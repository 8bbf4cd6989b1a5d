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
  private volatile Patience current;
  private volatile boolean isLeft;

  RequestList(Connection connection, ListRequestsRequest question, Supplier<Patience> patience) {
    this.connection = connection;
    this.question = question;
    this.patience = patience;
    this.current = patience.get();
  }

  @Override
  Request read() {
    while (!page.hasNext() && question != null) {
      ListRequestsResponse answer =
          connection.askRepeatedly(RequestServiceGrpc.getListRequestsMethod(), question, current);
      page = answer.getRequestsList().iterator();
      String token = answer.getNextPageToken();
      question = token.isEmpty() ? null : question.toBuilder().setPageToken(token).build();
      turn();
    }
    return page.hasNext() ? page.next() : null;
  }

  @Override
  public void close() {
    isLeft = true;
    current.leave();
  }

  /** Each page has a deadline of its own. */
  private void turn() {
    current = patience.get();
    if (isLeft) {
      current.leave();
    }
  }
}
