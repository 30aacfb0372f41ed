package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const readMax = 90 * time.Second

var (
	output     = bufio.NewWriterSize(os.Stdout, 1<<20)
	outputLock sync.Mutex
)

// hexBytes is a byte string that is hexadecimal, or null, in JSON.
type hexBytes []byte

func (b hexBytes) MarshalJSON() ([]byte, error) {
	if b == nil {
		return []byte("null"), nil
	}
	return json.Marshal(hex.EncodeToString(b))
}

func (b *hexBytes) UnmarshalJSON(text []byte) error {
	*b = nil
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	decoded, err := hex.DecodeString(string(bytes.Trim(text, `"`)))
	if decoded == nil {
		decoded = []byte{}
	}
	*b = decoded
	return err
}

// header is a pair in JSON: [name, content].
type header struct {
	name    string
	content hexBytes
}

func (h header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.name, h.content}) }

func (h *header) UnmarshalJSON(text []byte) error {
	var parts [2]json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if err := json.Unmarshal(parts[0], &h.name); err != nil {
		return err
	}
	return h.content.UnmarshalJSON(parts[1])
}

// specified is a record that a writer shall write.
type specified struct {
	Partition int32    `json:"partition"`
	Key       hexBytes `json:"key"`
	Value     hexBytes `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

// dumped is a record as a reader saw it; the Rust side compares its JSON byte for byte.
type dumped struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Key       hexBytes `json:"key"`
	Value     hexBytes `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

func (d dumped) print() error {
	if d.Headers == nil {
		d.Headers = []header{}
	}
	line, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(output, "%s\n", line)
	return err
}

func readSpec(path string) ([]specified, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var records []specified
	for line := range bytes.Lines(text) {
		var record specified
		if err := json.Unmarshal(line, &record); err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// event prints one line of a group member's diary: when (microseconds of the wall clock), what, and on what.
func event(kind string, words ...any) {
	outputLock.Lock()
	defer outputLock.Unlock()
	fmt.Fprintf(output, "@ %d %s", time.Now().UnixMicro(), kind)
	for _, word := range words {
		fmt.Fprintf(output, " %v", word)
	}
	fmt.Fprintln(output)
	output.Flush()
}

func numbers[N int | int32](partitions []N) string {
	if len(partitions) == 0 {
		return "-"
	}
	sorted := slices.Clone(partitions)
	slices.Sort(sorted)
	words := make([]string, 0, len(sorted))
	for _, each := range sorted {
		words = append(words, strconv.FormatInt(int64(each), 10))
	}
	return strings.Join(words, ",")
}
