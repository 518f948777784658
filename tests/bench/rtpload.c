/* Media load for a relay: the two ends of many calls, each sending a packet of G.711 every 20 ms and counting what comes from the other.
 *
 *     rtpload MAP AUDIO CALLER_PORT AGENT_PORT WARM_UP_S WINDOW_S
 *
 * Each line of MAP is a call: the relay's port for its caller and the one for its agent, on 127.0.0.1. All callers share one socket and all
 * agents another, so a relay must tell calls apart by its own ports. AUDIO is raw µ-law of a conversation, 20 ms
 * of the caller and 20 ms of the agent in turns, played in a loop from another place for each call.
 * Prints "begin" and "end" at the borders of the window, so that whoever started this can read the relay's CPU, and then one line of JSON.
 *
 * A packet carries nothing but RTP and audio. When it left is remembered by flow and sequence number; when it came is the kernel's time stamp.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { AUDIO_BYTES = 160, HEADER = 12, PACKET = HEADER + AUDIO_BYTES, TURN = 2 * AUDIO_BYTES, BATCH = 64, REMEMBERED = 256 };
static const int64_t FRAME_NS = 20000000, READ_EVERY_NS = 250000, AFTERWARDS_NS = 400000000;
static const uint32_t FIRST_SSRC = 0x54000000;

struct flow {
    struct sockaddr_in relay;
    size_t audio_at;
    uint32_t sent; /* packets so far; the next one's sequence number is its low half */
    uint32_t newest;
    bool heard;
    int64_t left_ns[REMEMBERED]; /* negative: before the window, or already here */
};

static struct {
    uint64_t sent, received, reordered, repeated, foreign, unsent;
    int64_t latest_ns;
} count;

static float *delays;
static size_t delays_room;

static int64_t clock_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int bound(int port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 32 << 20, on = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) die("SO_TIMESTAMPNS");
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) die("bind");
    return fd;
}

static void send_one(int fd, struct flow *flow, uint32_t ssrc, const uint8_t *audio, size_t length, bool counts) {
    uint8_t packet[PACKET] = {0x80, flow->sent ? 0x00 : 0x80};
    uint16_t sequence = htons((uint16_t)flow->sent);
    uint32_t timestamp = htonl(flow->sent * AUDIO_BYTES), source = htonl(ssrc);
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &source, 4);
    memcpy(packet + HEADER, audio + flow->audio_at, AUDIO_BYTES);
    flow->audio_at = (flow->audio_at + TURN) % length;
    int64_t now = clock_ns();
    flow->left_ns[flow->sent % REMEMBERED] = counts ? now : -1;
    flow->sent++;
    count.sent += counts;
    if (sendto(fd, packet, PACKET, 0, (struct sockaddr *)&flow->relay, sizeof flow->relay) != PACKET) count.unsent++;
}

static int64_t kernel_time(struct msghdr *message) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(part), sizeof at);
            return at.tv_sec * 1000000000LL + at.tv_nsec;
        }
    return 0;
}

/* `end` is 0 at the callers' socket, which hears the odd flows (agents), and 1 at the agents', which hears the even ones. */
static void take(struct flow *flows, uint32_t total, int end, const uint8_t *packet, size_t size, int64_t came_ns) {
    uint32_t source;
    uint16_t sequence;
    if (size != PACKET) { count.foreign++; return; }
    memcpy(&source, packet + 8, 4);
    memcpy(&sequence, packet + 2, 2);
    uint32_t index = ntohl(source) - FIRST_SSRC;
    if (index >= total || (int)(index & 1) == end) { count.foreign++; return; }
    struct flow *flow = flows + index;
    uint32_t number = (flow->sent & ~0xffffu) | ntohs(sequence);
    if (number >= flow->sent) number -= 0x10000;
    int64_t *left = &flow->left_ns[number % REMEMBERED];
    if (flow->heard && number < flow->newest) count.reordered += *left > 0;
    else { flow->newest = number; flow->heard = true; }
    if (*left == 0) { count.repeated++; return; }
    if (*left > 0) {
        if (count.received < delays_room) delays[count.received] = (came_ns - *left) / 1000.0f;
        count.received++;
    }
    *left = 0;
}

static void read_all(int fd, int end, struct flow *flows, uint32_t total) {
    static uint8_t data[BATCH][512];
    static char control[BATCH][64];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){data[i], sizeof data[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = sizeof control[i]};
        }
        int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) take(flows, total, end, data[i], messages[i].msg_len, kernel_time(&messages[i].msg_hdr));
        if (got < BATCH) return;
    }
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double at_share(double share) {
    size_t have = count.received < delays_room ? count.received : delays_room;
    return have ? delays[(size_t)((have - 1) * share)] : 0.0;
}

static struct flow *read_map(const char *path, uint32_t *total) {
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    struct flow *flows = NULL;
    int caller, agent;
    for (*total = 0; fscanf(file, "%d %d", &caller, &agent) == 2; *total += 2) {
        flows = realloc(flows, (*total + 2) * sizeof *flows);
        if (!flows) die("memory");
        memset(flows + *total, 0, 2 * sizeof *flows);
        for (int end = 0; end < 2; end++)
            flows[*total + end].relay = (struct sockaddr_in){
                .sin_family = AF_INET, .sin_port = htons(end ? agent : caller), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    }
    fclose(file);
    return flows;
}

static uint8_t *read_audio(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    uint8_t *audio = malloc(16 << 20);
    *length = fread(audio, 1, 16 << 20, file);
    fclose(file);
    if (!*length || *length % TURN) { fprintf(stderr, "%s does not hold frames of both parties in turns\n", path); exit(1); }
    return audio;
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "usage: rtpload MAP AUDIO CALLER_PORT AGENT_PORT WARM_UP_S WINDOW_S\n"); return 2; }
    uint32_t total;
    size_t length;
    struct flow *flows = read_map(argv[1], &total);
    uint8_t *audio = read_audio(argv[2], &length);
    int ends[2] = {bound(atoi(argv[3])), bound(atoi(argv[4]))};
    double warm_up = atof(argv[5]), window = atof(argv[6]);
    if (!total) { fprintf(stderr, "no calls\n"); return 2; }
    delays_room = (size_t)(total * 50 * window * 1.1) + 1000;
    delays = calloc(delays_room, sizeof *delays);
    for (uint32_t i = 0; i < total; i++) flows[i].audio_at = (size_t)(i / 2) * 7919 % (length / TURN) * TURN + i % 2 * AUDIO_BYTES;
    prctl(PR_SET_TIMERSLACK, 1);

    int64_t start = clock_ns() + 5000000, opens = start + (int64_t)(warm_up * 1e9), closes = opens + (int64_t)(window * 1e9);
    int64_t next_read = start;
    bool began = false;
    for (uint64_t step = 0;; step++) {
        int64_t due = start + (int64_t)(step / total) * FRAME_NS + (int64_t)(step % total) * FRAME_NS / total;
        if (!began && due >= opens) { began = true; puts("begin"); fflush(stdout); }
        if (due >= closes) break;
        int64_t now = clock_ns();
        while (now < due || now >= next_read) {
            if (now >= next_read) {
                for (int end = 0; end < 2; end++) read_all(ends[end], end, flows, total);
                next_read = clock_ns() + READ_EVERY_NS;
            }
            int64_t wake = due < next_read ? due : next_read;
            struct timespec until = {wake / 1000000000, wake % 1000000000};
            now = clock_ns();
            if (now < due && wake > now) clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
            now = clock_ns();
        }
        if (began && now - due > count.latest_ns) count.latest_ns = now - due;
        uint32_t index = step % total;
        send_one(ends[index & 1], flows + index, FIRST_SSRC + index, audio, length, began);
    }
    puts("end");
    fflush(stdout);
    for (int64_t until = clock_ns() + AFTERWARDS_NS; clock_ns() < until;) {
        for (int end = 0; end < 2; end++) read_all(ends[end], end, flows, total);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    qsort(delays, count.received < delays_room ? count.received : delays_room, sizeof *delays, by_size);
    printf("{\"sent\": %llu, \"received\": %llu, \"reordered\": %llu, \"repeated\": %llu, \"foreign\": %llu, \"unsent\": %llu, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"worst_us\": %.1f, \"late_us\": %.1f}\n",
           (unsigned long long)count.sent, (unsigned long long)count.received, (unsigned long long)count.reordered,
           (unsigned long long)count.repeated, (unsigned long long)count.foreign, (unsigned long long)count.unsent, at_share(0.5),
           at_share(0.99), at_share(1.0), count.latest_ns / 1000.0);
    return 0;
}
