/* The forwarding of RTP and RTCP in a thread of its own, which needs no interpreter lock.
 *
 * A path is one direction of one component: packets from `source` that arrive on `in` leave by `out` for `destination`. What comes from
 * anywhere else, or before a path is open, waits in a bounded queue for the program that owns the thread, which alone decides who is
 * believed (symmetric latching, RFC 4961). What was forwarded is copied into a bounded ring for the analysis.
 *
 * Plain C behind plain functions: it is loaded without the interpreter's headers, by any version of it.
 *
 * Locks: `lock` guards paths and sockets, `ring_lock` the two queues; `ring_lock` is taken inside `lock`, never the other way round.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ABI 3
#define LARGEST 2048
#define BATCH 16
#define EVENTS 256
#define AHEAD -10    /* of the rest of the process, as nice(1) counts */
#define SLICE 100000 /* nanoseconds, the shortest there is: one batch takes less */
#define RATE_WINDOW 0.01 /* seconds over which packets are counted */
#define DENSE 100        /* packets in a window from which on the thread rests before it looks again: 10,000 a second */
#define REST 200000      /* nanoseconds: a packet that comes meanwhile waits no longer; its arrival is the kernel's, so no figure moves */
#define SAMPLES 256 /* of the time that packets waited, kept for each path */
#define SAMPLE_EVERY 8
#define LONGEST_WAIT 30.0 /* seconds; one that seems longer was stamped by a clock that has been set since */
#define LAST_WORDS 512    /* packets that are still forwarded when a path closes */

typedef struct {
    int active, in, out, open, final, tapped;
    uint32_t slot, leg;
    struct sockaddr_storage source, destination;
    socklen_t destination_length;
    uint64_t accepted, refused, send_errors, dropped, waiting, seen;
    double samples[SAMPLES];
} path_t;

static const uint32_t NOBODY = 0; /* a slot without an owner */

/* One packet in a queue; `length` octets follow. `port` and `address` are the source's, in the order of the network. */
typedef struct {
    uint32_t path, slot, leg;
    uint16_t length, port;
    uint32_t family;
    uint8_t address[16];
    double arrival;
} head_t;

/* `taken` is what the owner reads while the thread fills `octets`: it must not hold `ring_lock` for as long as a copy takes, since it may be
 * put aside meanwhile for whoever else calculates, and the thread would wait for it. */
typedef struct {
    uint8_t *octets, *taken;
    size_t size, used;
} queue_t;

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock, ring_lock;
    int epoll, stop, notice;
    path_t **paths;
    uint32_t count;
    queue_t tap, unknown;
} relay_t;

typedef struct {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_storage sources[BATCH];
    uint8_t data[BATCH][LARGEST], ancillary[BATCH][CMSG_SPACE(sizeof(struct timespec))];
    struct mmsghdr leaving[BATCH];
    double arrival[BATCH];
} batch_t;

/* Everything in a batch that the kernel does not change. */
static void prepare(batch_t *batch) {
    memset(batch->messages, 0, sizeof batch->messages);
    memset(batch->leaving, 0, sizeof batch->leaving);
    for (int i = 0; i < BATCH; i++) {
        struct msghdr *header = &batch->messages[i].msg_hdr;
        batch->parts[i] = (struct iovec){batch->data[i], LARGEST};
        header->msg_name = &batch->sources[i];
        header->msg_namelen = sizeof batch->sources[i];
        header->msg_iov = &batch->parts[i];
        header->msg_iovlen = 1;
        header->msg_control = batch->ancillary[i];
        header->msg_controllen = sizeof batch->ancillary[i];
    }
}

/* Undo what `count` received packets changed. */
static void restore(batch_t *batch, int count) {
    for (int i = 0; i < count; i++) {
        struct msghdr *header = &batch->messages[i].msg_hdr;
        batch->parts[i].iov_len = LARGEST;
        header->msg_namelen = sizeof batch->sources[i];
        header->msg_controllen = sizeof batch->ancillary[i];
    }
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static int same(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    if (a->ss_family != b->ss_family) return 0;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)a, *y = (const void *)b;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)b;
    return x->sin6_port == y->sin6_port && !memcmp(&x->sin6_addr, &y->sin6_addr, 16);
}

static socklen_t address(struct sockaddr_storage *to, int family, const uint8_t *octets, uint16_t port) {
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        struct sockaddr_in *in = (void *)to;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, octets, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (void *)to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, octets, 16);
    return sizeof *in6;
}

/* 0 where there is no room: the newest goes, and is counted. */
static int append(queue_t *queue, head_t head, const struct sockaddr_storage *source, const uint8_t *data) {
    if (queue->used + sizeof head + head.length > queue->size) return 0;
    head.family = source->ss_family;
    if (source->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)source;
        head.port = ntohs(in->sin_port);
        memcpy(head.address, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in6 = (const void *)source;
        head.port = ntohs(in6->sin6_port);
        memcpy(head.address, &in6->sin6_addr, 16);
    }
    memcpy(queue->octets + queue->used, &head, sizeof head);
    memcpy(queue->octets + queue->used + sizeof head, data, head.length);
    queue->used += sizeof head + head.length;
    return 1;
}

static double waited(struct msghdr *message, double wall) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
            double since = wall - (stamp.tv_sec + stamp.tv_nsec * 1e-9);
            return since >= 0 && since < LONGEST_WAIT ? since : 0;
        }
    return 0;
}

static void leave(path_t *path, struct mmsghdr *leaving, int count) {
    for (int done = 0; done < count;) {
        int sent = sendmmsg(path->out, leaving + done, count - done, MSG_DONTWAIT);
        if (sent <= 0) {
            if (sent < 0 && errno == EINTR) continue;
            path->send_errors++; /* this one is lost, the next ones may pass: an ICMP error of an earlier packet is told in place of a send */
            sent = 1;
        }
        done += sent;
    }
}

/* Read and forward once; how many packets there were. `lock` is held, `batch` was prepared. */
static int forward(relay_t *relay, uint32_t index, batch_t *batch) {
    path_t *path = relay->paths[index];
    int count = recvmmsg(path->in, batch->messages, BATCH, MSG_DONTWAIT, NULL);
    if (count <= 0) return 0;
    int known[BATCH], leaving = 0, unknown = 0;
    for (int i = 0; i < count; i++) {
        known[i] = path->open && same(&batch->sources[i], &path->source);
        if (!known[i]) {
            unknown++;
            continue;
        }
        batch->parts[i].iov_len = batch->messages[i].msg_len;
        batch->leaving[leaving++].msg_hdr = (struct msghdr){.msg_name = &path->destination,
                                                            .msg_namelen = path->destination_length,
                                                            .msg_iov = &batch->parts[i],
                                                            .msg_iovlen = 1};
    }
    if (leaving) leave(path, batch->leaving, leaving);
    path->accepted += leaving;
    double wall = seconds(CLOCK_REALTIME), now = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        double since = waited(&batch->messages[i].msg_hdr, wall);
        batch->arrival[i] = now - since;
        if (known[i] && ++path->seen % SAMPLE_EVERY == 0) path->samples[(path->seen / SAMPLE_EVERY - 1) % SAMPLES] = since;
    }
    restore(batch, count);
    if (!path->tapped && !unknown) return count;
    int told = 0;
    pthread_mutex_lock(&relay->ring_lock);
    for (int i = 0; i < count; i++) {
        head_t head = {.path = index, .slot = path->slot, .leg = path->leg, .length = batch->messages[i].msg_len, .arrival = batch->arrival[i]};
        if (known[i]) {
            if (path->tapped && !append(&relay->tap, head, &batch->sources[i], batch->data[i])) path->dropped++;
        } else if (path->open && path->final) {
            path->refused++;
        } else if (append(&relay->unknown, head, &batch->sources[i], batch->data[i])) {
            path->waiting++;
            told = 1;
        } else {
            path->refused++;
        }
    }
    pthread_mutex_unlock(&relay->ring_lock);
    if (told) eventfd_write(relay->notice, 1);
    return count;
}

/* Before signalling and analysis on a busy processor, from wherever the process stands; where the system does not allow it, beside them.
 * The short slice is for whoever wakes up while others calculate: since Linux 6.12 the shorter one goes first, and it needs no privilege. */
static void prefer(void) {
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } wanted = {
        .size = sizeof wanted, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE};
    syscall(SYS_sched_setattr, 0, &wanted, 0);
    setpriority(PRIO_PROCESS, 0, wanted.nice + AHEAD);
}

static void *run(void *argument) {
    relay_t *relay = argument;
    batch_t *batch = malloc(sizeof *batch);
    struct epoll_event events[EVENTS];
    pthread_setname_np(pthread_self(), "trunkside-media");
    prefer();
    if (batch) prepare(batch);
    double window = 0;
    int packets = 0, dense = 0;
    while (batch) {
        int ready = epoll_wait(relay->epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.u32 == UINT32_MAX) {
                free(batch);
                return NULL;
            }
            pthread_mutex_lock(&relay->lock);
            if (events[i].data.u32 < relay->count && relay->paths[events[i].data.u32]->active)
                packets += forward(relay, events[i].data.u32, batch);
            pthread_mutex_unlock(&relay->lock);
        }
        /* Waking up for each packet costs about as much as forwarding it. Where many come, they are let come together. */
        double now = seconds(CLOCK_MONOTONIC);
        if (now - window >= RATE_WINDOW) {
            dense = packets >= DENSE * (now - window) / RATE_WINDOW;
            window = now;
            packets = 0;
        }
        if (dense && ready < EVENTS / 4) nanosleep(&(struct timespec){0, REST}, NULL);
    }
    return NULL;
}

int relay_abi(void) { return ABI; }

void relay_delete(relay_t *relay);

/* NULL where the system refuses. `tap` and `unknown` are octets for the two queues. */
relay_t *relay_new(size_t tap, size_t unknown) {
    relay_t *relay = calloc(1, sizeof *relay);
    if (!relay) return NULL;
    pthread_mutex_init(&relay->lock, NULL);
    pthread_mutex_init(&relay->ring_lock, NULL);
    relay->tap = (queue_t){malloc(tap), malloc(tap), tap, 0};
    relay->unknown = (queue_t){malloc(unknown), malloc(unknown), unknown, 0};
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    relay->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    relay->notice = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    sigset_t all, before;
    sigfillset(&all);
    int failed = !relay->tap.octets || !relay->tap.taken || !relay->unknown.octets || !relay->unknown.taken || relay->epoll < 0 ||
                 relay->stop < 0 || relay->notice < 0 || epoll_ctl(relay->epoll, EPOLL_CTL_ADD, relay->stop, &event);
    if (!failed) {
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
        failed = pthread_create(&relay->thread, NULL, run, relay);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (!failed) return relay;
    relay->thread = 0;
    relay_delete(relay);
    return NULL;
}

/* Ends the thread. Sockets are their owner's to close. */
void relay_delete(relay_t *relay) {
    if (relay->thread) {
        eventfd_write(relay->stop, 1);
        pthread_join(relay->thread, NULL);
    }
    for (uint32_t i = 0; i < relay->count; i++) free(relay->paths[i]);
    free(relay->paths);
    free(relay->tap.octets);
    free(relay->tap.taken);
    free(relay->unknown.octets);
    free(relay->unknown.taken);
    int files[] = {relay->epoll, relay->stop, relay->notice};
    for (int i = 0; i < 3; i++)
        if (files[i] >= 0) close(files[i]);
    free(relay);
}

/* Readable whenever packets wait for `relay_unknown`. */
int relay_notice(relay_t *relay) { return relay->notice; }

/* The index of a new path, closed so far; -1 where the system refuses. `slot` and `leg` come back with each packet. */
int relay_add(relay_t *relay, int in, int out, uint32_t slot, uint32_t leg, int tapped) {
    pthread_mutex_lock(&relay->lock);
    uint32_t index = 0;
    while (index < relay->count && relay->paths[index]->active) index++;
    if (index == relay->count) {
        path_t **more = realloc(relay->paths, (relay->count + 1) * sizeof *more);
        path_t *fresh = malloc(sizeof *fresh);
        if (more) relay->paths = more;
        if (!more || !fresh) {
            free(fresh);
            pthread_mutex_unlock(&relay->lock);
            return -1;
        }
        relay->paths[relay->count++] = fresh;
    }
    path_t *path = relay->paths[index];
    memset(path, 0, sizeof *path);
    *path = (path_t){.active = 1, .in = in, .out = out, .slot = slot, .leg = leg, .tapped = tapped};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    int failed = epoll_ctl(relay->epoll, EPOLL_CTL_ADD, in, &event);
    if (failed) path->active = 0;
    pthread_mutex_unlock(&relay->lock);
    return failed ? -1 : (int)index;
}

/* Forward what waits of a path that opens, as it would have been forwarded had it come a moment later. What others sent waits on. Else a path
 * whose packets come faster than its owner decides would never open, and everybody would wait for the owner. `lock` is held. */
static void catch_up(relay_t *relay, uint32_t index) {
    path_t *path = relay->paths[index];
    queue_t *queue = &relay->unknown;
    double now = seconds(CLOCK_MONOTONIC);
    pthread_mutex_lock(&relay->ring_lock);
    for (size_t at = 0; path->waiting && at < queue->used;) {
        head_t head;
        memcpy(&head, queue->octets + at, sizeof head);
        const uint8_t *data = queue->octets + at + sizeof head;
        struct sockaddr_storage source;
        if (head.slot == path->slot && head.path == index && address(&source, head.family, head.address, head.port) && same(&source, &path->source)) {
            struct iovec part = {(void *)data, head.length};
            struct mmsghdr leaving = {
                .msg_hdr = {.msg_name = &path->destination, .msg_namelen = path->destination_length, .msg_iov = &part, .msg_iovlen = 1}};
            leave(path, &leaving, 1);
            path->accepted++;
            if (++path->seen % SAMPLE_EVERY == 0) path->samples[(path->seen / SAMPLE_EVERY - 1) % SAMPLES] = now - head.arrival;
            if (path->tapped && !append(&relay->tap, head, &source, data)) path->dropped++;
            memcpy(queue->octets + at + offsetof(head_t, slot), &NOBODY, sizeof NOBODY);
            path->waiting--;
        }
        at += sizeof head + head.length;
    }
    pthread_mutex_unlock(&relay->ring_lock);
}

/* Open a path: packets from `source` go to `destination`, those first that wait to be decided upon. `final`: nobody else can be meant, so
 * others are refused here. Not while the owner is deciding upon packets of this path: they would be overtaken. */
void relay_open(relay_t *relay, uint32_t index, int family, const uint8_t *source, uint16_t source_port, int to_family, const uint8_t *destination,
                uint16_t destination_port, int final) {
    pthread_mutex_lock(&relay->lock);
    path_t *path = relay->paths[index];
    address(&path->source, family, source, source_port);
    path->destination_length = address(&path->destination, to_family, destination, destination_port);
    path->open = 1;
    path->final = final;
    catch_up(relay, index);
    pthread_mutex_unlock(&relay->lock);
}

/* Every packet of a path is to be asked about again. */
void relay_close(relay_t *relay, uint32_t index) {
    pthread_mutex_lock(&relay->lock);
    relay->paths[index]->open = 0;
    pthread_mutex_unlock(&relay->lock);
}

/* Forward what has arrived, then look at this path's socket no more. The path's figures can be read until the next `relay_add`. */
void relay_remove(relay_t *relay, uint32_t index) {
    batch_t *batch = malloc(sizeof *batch);
    if (batch) prepare(batch);
    pthread_mutex_lock(&relay->lock);
    path_t *path = relay->paths[index];
    for (int left = LAST_WORDS; batch && left > 0;) {
        int count = forward(relay, index, batch);
        if (!count) break;
        left -= count;
    }
    epoll_ctl(relay->epoll, EPOLL_CTL_DEL, path->in, NULL);
    path->active = 0;
    pthread_mutex_unlock(&relay->lock);
    free(batch);
}

/* accepted, refused, send errors, packets that the ring had no room for */
void relay_figures(relay_t *relay, uint32_t index, uint64_t *figures) {
    pthread_mutex_lock(&relay->lock);
    path_t *path = relay->paths[index];
    figures[0] = path->accepted;
    figures[1] = path->refused;
    figures[2] = path->send_errors;
    figures[3] = path->dropped;
    pthread_mutex_unlock(&relay->lock);
}

/* Seconds that some of the newest packets waited, into `samples` (room for 256); how many. */
int relay_delays(relay_t *relay, uint32_t index, double *samples) {
    pthread_mutex_lock(&relay->lock);
    path_t *path = relay->paths[index];
    uint64_t count = path->seen / SAMPLE_EVERY;
    if (count > SAMPLES) count = SAMPLES;
    memcpy(samples, path->samples, count * sizeof *samples);
    pthread_mutex_unlock(&relay->lock);
    return (int)count;
}

/* Takes turns of the two halves. */
static const uint8_t *take(relay_t *relay, queue_t *queue, size_t *length) {
    pthread_mutex_lock(&relay->ring_lock);
    uint8_t *full = queue->octets;
    *length = queue->used;
    queue->octets = queue->taken;
    queue->used = 0;
    pthread_mutex_unlock(&relay->ring_lock);
    return queue->taken = full;
}

/* What was forwarded since the last call, as heads and octets; good until the next call. */
const uint8_t *relay_tap(relay_t *relay, size_t *length) { return take(relay, &relay->tap, length); }

/* What waits to be decided upon; good until the next call. */
const uint8_t *relay_unknown(relay_t *relay, size_t *length) {
    eventfd_t noticed;
    eventfd_read(relay->notice, &noticed);
    return take(relay, &relay->unknown, length);
}

/* One packet of a path that was waiting has been decided upon. */
void relay_decided(relay_t *relay, uint32_t index) {
    pthread_mutex_lock(&relay->lock);
    if (relay->paths[index]->waiting) relay->paths[index]->waiting--;
    pthread_mutex_unlock(&relay->lock);
}
