package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// layer is one tar archive of the image.
type layer struct {
	compress bool
	entries  []entry
}

// entry is a tar header and the content of a file. Mode 0 is 0644; a name that
// ends in a slash is a directory.
type entry struct {
	tar.Header
	content []byte
}

func (l layer) tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range l.entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// image is the blobs of an image by digest, and its manifest.
type image struct {
	blobs    map[string][]byte
	manifest []byte
}

// Media types of the OCI image specification 1.1.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

type object = map[string]any

// add stores a blob and returns its descriptor.
func (i *image) add(mediaType string, b []byte) object {
	d := digest(b)
	i.blobs[d] = b
	return object{"mediaType": mediaType, "digest": d, "size": len(b)}
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// build puts layers, configuration and manifest together.
func build(layers []layer, arch string) (*image, error) {
	i := &image{blobs: map[string][]byte{}}
	var diffIDs []string
	var descriptors []object
	for _, l := range layers {
		plain, err := l.tar()
		if err != nil {
			return nil, err
		}
		diffIDs = append(diffIDs, digest(plain))
		if !l.compress {
			descriptors = append(descriptors, i.add(layerType, plain))
			continue
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(plain); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		descriptors = append(descriptors, i.add(layerType+"+gzip", b.Bytes()))
	}
	config, err := json.Marshal(object{
		"os": "linux", "architecture": arch, "rootfs": object{"type": "layers", "diff_ids": diffIDs},
		"config": object{
			"User": "web", "WorkingDir": "/usr/share/web", "Env": []string{"PATH=/usr/bin", "IMAGE=yes", "RECIPE=no"},
			"Entrypoint": []string{"web"}, "Cmd": []string{"-greeting", "current"},
		},
	})
	if err != nil {
		return nil, err
	}
	i.manifest, err = json.Marshal(object{
		"schemaVersion": 2, "mediaType": manifestType, "config": i.add(configType, config), "layers": descriptors,
	})
	return i, err
}

// push sends all blobs, then the manifest under its tag (OCI distribution
// specification, "Push"), and returns the digest of the manifest.
func (i *image) push(registry, name, tag string) (string, error) {
	for d, b := range i.blobs {
		place, err := send(http.MethodPost, registry+"/v2/"+name+"/blobs/uploads/", "", nil)
		if err != nil {
			return "", err
		}
		u, err := url.Parse(place)
		if err != nil {
			return "", err
		}
		q := u.Query()
		q.Set("digest", d)
		u.RawQuery = q.Encode()
		if _, err := send(http.MethodPut, u.String(), "application/octet-stream", b); err != nil {
			return "", err
		}
	}
	_, err := send(http.MethodPut, registry+"/v2/"+name+"/manifests/"+tag, manifestType, i.manifest)
	return digest(i.manifest), err
}

// send does one request and returns where it leads.
func send(method, to, contentType string, body []byte) (location string, err error) {
	req, err := http.NewRequest(method, to, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return "", fmt.Errorf("%s %s: %s %s", method, to, resp.Status, text)
	}
	return resp.Header.Get("Location"), nil
}
